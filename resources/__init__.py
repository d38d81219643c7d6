"""What the graph reaches the outside world through: the market, the artifact store, PostgreSQL, MLflow."""

"""What Dagster sees, one file a stage, in the order data flows; each loads, calls one pure function, describes."""

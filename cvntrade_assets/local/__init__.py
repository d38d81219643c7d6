"""Everything of CVNTrade on one machine: its servers, started together and stopped together."""

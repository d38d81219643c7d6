"""CVNTrade: the asset graph that turns crypto candles into calibrated, honestly judged models."""

"""Pure room: candles, the formats of the exchange, the simulated market."""

"""What must hold, per asset and per crypto."""

"""What the `cvntrade` commands do, one file a command."""

"""The migrations of the operations schema."""

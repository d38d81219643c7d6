"""What a deployment installs, and what generates parts of it."""

"""What starts runs and keeps partitions in step with the universe."""

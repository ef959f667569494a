"""What a run leaves after its last epoch."""

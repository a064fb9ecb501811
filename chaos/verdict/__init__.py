"""What a run's samples say about the system."""

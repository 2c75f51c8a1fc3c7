"""What composes the rooms: pre-training with its probes, evaluation of runs."""

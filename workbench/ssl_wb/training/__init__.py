"""The loop on Accelerate, schedules, checkpoints, the run folder and its health."""

"""Published checkpoints as encoders: read without running code, recognised, mapped, and accounted for."""

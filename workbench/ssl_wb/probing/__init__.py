"""What evaluators share: heads and how they are trained, inputs and targets, and the checks and result of a probe."""

"""Student, predictor, teacher and objectives put together: one forward pass."""

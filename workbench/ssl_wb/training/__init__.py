"""One training step and the loop around it, gradient caching, automatic micro-batch, health, launch."""

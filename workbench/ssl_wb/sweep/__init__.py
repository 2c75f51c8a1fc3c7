"""Sweeps: one file that says which runs to compare, the runs it means, and starting them."""

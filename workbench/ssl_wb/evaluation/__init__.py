"""Evaluation of frozen encoders: embeddings and their cache, baselines, results and comparisons."""

"""Probes of frozen encoders: tasks, embeddings, baselines, and who is compared with whom."""

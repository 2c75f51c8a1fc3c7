"""Metrics, bootstrap intervals and the results made of them: what every evaluator shares."""

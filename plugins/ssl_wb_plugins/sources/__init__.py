"""Bundled sources of clips."""

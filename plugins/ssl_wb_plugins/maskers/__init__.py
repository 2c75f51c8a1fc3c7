"""Bundled maskers."""

"""Bundled objectives."""

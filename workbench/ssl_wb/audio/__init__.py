"""Clips and their decoding."""

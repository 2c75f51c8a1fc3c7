"""Augmentations of the waveform."""

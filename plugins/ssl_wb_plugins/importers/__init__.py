"""Importers: published checkpoints as encoders, one system per file."""

"""Formats that encoders are exported to, one file each."""

"""TOML to a validated recipe: extends, overrides, plugin options, the resolved snapshot."""

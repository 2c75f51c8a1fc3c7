"""Write the project of a new plugin."""

"""What a plugin is: four contracts and the values that pass through them. Plugins import ``ssl_wb.api``."""

"""What a plugin is: the four contracts and the values that pass through them. Plugins import them from ``ssl_wb.api``."""

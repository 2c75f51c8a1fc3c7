"""The bundled plugins of ssl-wb. Each module is one plugin, found by its entry point."""

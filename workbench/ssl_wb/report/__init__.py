"""Results as tables and pictures, and previews of masks."""

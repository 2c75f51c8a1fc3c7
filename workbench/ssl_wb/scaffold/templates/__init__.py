"""One complete plugin and its tests per kind: they run as they are, and the scaffold renames them."""

"""A plugin that raises when it is imported."""

raise RuntimeError("this sample is broken on purpose")

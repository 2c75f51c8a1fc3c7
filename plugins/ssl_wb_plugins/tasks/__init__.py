"""Public data sets as tasks, one file per domain."""

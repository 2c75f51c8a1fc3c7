"""The command line: one thin module per verb. Heavy imports are inside functions: help answers at once."""

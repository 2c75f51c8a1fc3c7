"""A plugin for a contract that ssl-wb does not have yet."""

API_VERSION = 1000

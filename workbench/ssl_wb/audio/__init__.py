"""Audio in: decoding and the log-mel front end."""

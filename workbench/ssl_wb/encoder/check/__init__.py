"""The passport of an encoder: what its embeddings depend on besides the sound, measured on any kind of encoder."""

"""The frozen encoder: waveforms to embeddings."""

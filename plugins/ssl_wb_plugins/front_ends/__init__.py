"""Front ends: waveforms to spectrograms."""

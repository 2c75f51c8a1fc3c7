"""Tests of the front end."""

from __future__ import annotations

import torch

from ssl_wb.scaffold.templates.front_end import NewPlugin, NewPluginOptions


def test_the_shape_is_bands_by_frames() -> None:
    """T = 1 + (S - frame_samples) // hop."""
    front_end = NewPlugin(NewPluginOptions())
    spectrum = front_end.spectrum(torch.randn(2, 16000))
    assert spectrum.shape == (2, 80, 1 + (16000 - front_end.frame_samples) // 160)


def test_silence_and_noise_are_finite() -> None:
    """The log of silence is finite."""
    front_end = NewPlugin(NewPluginOptions())
    for scale in (0.0, 1.0):
        assert front_end.spectrum(scale * torch.randn(2, 16000)).isfinite().all()


def test_a_high_tone_is_in_a_high_band() -> None:
    """Bands are ordered from low to high frequency."""
    time = torch.arange(16000) / 16000  # [S]
    tones = torch.stack([(2 * torch.pi * hertz * time).sin() for hertz in (500, 6000)])  # [2, S]
    low, high = NewPlugin(NewPluginOptions()).spectrum(tones).mean(dim=2).argmax(dim=1).tolist()
    assert low < high

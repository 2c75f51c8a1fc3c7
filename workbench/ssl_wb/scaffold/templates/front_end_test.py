"""Tests of the front end."""

from __future__ import annotations

import torch

from ssl_wb.scaffold.templates.front_end import NewPlugin, NewPluginOptions
from ssl_wb.testing import check_front_end


def test_it_keeps_the_contract() -> None:
    """Shapes, statistics, batches, precision, devices: everything that the workbench asks of a front end."""
    check_front_end(NewPlugin)


def test_a_high_tone_is_in_a_high_band() -> None:
    """Bands are ordered from low to high frequency."""
    time = torch.arange(16000) / 16000  # [S]
    tones = torch.stack([(2 * torch.pi * hertz * time).sin() for hertz in (500, 6000)])  # [2, S]
    low, high = NewPlugin(NewPluginOptions()).spectrum(tones).mean(dim=2).argmax(dim=1).tolist()
    assert low < high

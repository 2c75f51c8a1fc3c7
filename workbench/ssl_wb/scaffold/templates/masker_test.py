"""Tests of the masker."""

from __future__ import annotations

import torch

from ssl_wb.api import Grid, Mask, MaskRequest
from ssl_wb.scaffold.templates.masker import NewPlugin, NewPluginOptions


def draw(clips: int = 4, seed: int = 0) -> Mask:
    """Return the mask of silent clips on a grid of 5 x 8 patches."""
    patches = torch.zeros(clips, 40, 256)  # [B, N, P]
    generator = torch.Generator().manual_seed(seed)
    (mask,) = NewPlugin(NewPluginOptions(ratio=0.7))(MaskRequest(patches, Grid(5, 8), 0.0, generator))
    return mask


def test_counts_are_exact() -> None:
    """Every clip has int(N * (1 - ratio)) visible patches."""
    mask = draw()
    assert mask.visible.shape == (4, 12)
    assert mask.masked.shape == (4, 28)


def test_rows_are_sorted_and_a_partition() -> None:
    """Each patch is visible or masked, once, and each row is sorted."""
    mask = draw()
    assert torch.equal(mask.visible, mask.visible.sort(dim=1).values)
    assert torch.equal(mask.masked, mask.masked.sort(dim=1).values)
    everything = torch.cat([mask.visible, mask.masked], dim=1).sort(dim=1).values  # [B, N]
    assert torch.equal(everything, torch.arange(40).expand(4, -1))


def test_the_generator_decides() -> None:
    """Equal seeds give equal masks, whatever torch's global generator holds."""
    first = draw(seed=1)
    torch.rand(3)
    assert torch.equal(first.visible, draw(seed=1).visible)
    assert not torch.equal(first.visible, draw(seed=2).visible)

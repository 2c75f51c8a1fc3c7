"""Random masking."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_wb.api import Grid, MaskRequest, visible_count
from ssl_wb_plugins.maskers.random import RandomMasker, RandomOptions


def draw(rows: int, grid: Grid, ratio: float, seed: int, first: int = 0, everyone: int | None = None):
    request = MaskRequest(
        patches=torch.zeros(rows, grid.cells, 4),
        grid=grid,
        progress=0.0,
        generator=torch.Generator().manual_seed(seed),
        first_row=first,
        global_rows=everyone,
    )
    (mask,) = RandomMasker(RandomOptions(ratio=ratio))(request)
    return mask


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.floats(0.05, 0.95), st.integers(0, 2**31))
def test_exact_sorted_partition_that_follows_the_seed(rows, freq, time, ratio, seed):
    grid = Grid(freq, time)
    mask = draw(rows, grid, ratio, seed)
    assert mask.visible.shape == (rows, visible_count(grid.cells, ratio))
    both = torch.cat([mask.visible, mask.masked], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(grid.cells).expand(rows, -1))
    assert torch.equal(mask.visible, mask.visible.sort(dim=1).values)
    assert torch.equal(mask.masked, mask.masked.sort(dim=1).values)
    assert torch.equal(mask.visible, draw(rows, grid, ratio, seed).visible)


def test_masks_do_not_depend_on_how_the_batch_is_split():
    grid = Grid(5, 7)
    whole = draw(8, grid, 0.7, 3).visible
    parts = [draw(2, grid, 0.7, 3, first=first, everyone=8).visible for first in (0, 2, 4, 6)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(parts[0], parts[1])


def test_every_patch_is_masked_equally_often():
    grid = Grid(4, 5)
    rows = 20_000
    mask = draw(rows, grid, 0.7, 0)
    counts = torch.bincount(mask.masked.flatten(), minlength=grid.cells).double()
    expected = rows * 0.7
    chi_square = ((counts - expected) ** 2 / (expected * 0.3)).sum()
    assert chi_square < 45  # 20 cells; the 99.9 % point of chi-square with 19 degrees of freedom is 43.8

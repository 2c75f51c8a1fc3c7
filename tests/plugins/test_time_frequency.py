"""Time-frequency masking: the paper's rows and columns, and the released code's blocks and combs."""

from __future__ import annotations

import pytest
import torch
from masker_requests import silent, visible_map

from ssl_wb.api import Grid
from ssl_wb_plugins.maskers.time_frequency import TimeFrequencyMasker, TimeFrequencyOptions, released_lines

GRID = Grid(8, 64)


def maps(rows: int = 50, grid: Grid = GRID, **options) -> list[torch.Tensor]:
    masks = silent(TimeFrequencyMasker(TimeFrequencyOptions(**options)), rows, grid)
    return [visible_map(mask, grid) for mask in masks]


def test_paper_masks_whole_columns_then_whole_rows():
    time, freq = maps()
    assert (time.sum((1, 2)) == 200).all()
    assert torch.equal(time.any(1), time.all(1))
    assert (time.any(1).sum(1) == 25).all()
    assert (freq.sum((1, 2)) == 256).all()
    assert torch.equal(freq.any(2), freq.all(2))
    assert (freq.any(2).sum(1) == 4).all()
    assert len({tuple(row.tolist()) for row in time.any(1)}) == 50  # each clip its own columns


@pytest.mark.parametrize(("pair", "counts"), [("tf", [200, 256]), ("tt", [200, 200]), ("ff", [256, 256])])
def test_pairs(pair, counts):
    views = maps(pair=pair)
    assert [int(view[0].sum()) for view in views] == counts
    assert not torch.equal(views[0], views[1])


def test_released_time_branch_keeps_blocks_of_eight_consecutive_time_patches():
    time, _ = maps(layout="released")
    assert (time.sum((1, 2)) == 192).all()
    blocks = time.view(-1, 8, 8, 8)  # [B, F, block, 8]
    assert torch.equal(blocks.any(3).any(1), blocks.all(3).all(1))
    assert (blocks.all(3).all(1).sum(1) == 3).all()


def test_released_frequency_branch_keeps_combs():
    _, freq = maps(layout="released")
    assert (freq.sum((1, 2)) == 304).all()
    # (t mod 8, f) decides: every block of 8 time patches looks alike, and 38 of the 64 pairs are kept.
    blocks = freq.view(-1, 8, 8, 8)  # [B, F, block, t mod 8]
    assert torch.equal(blocks, blocks[:, :, :1].expand_as(blocks))
    assert (blocks[:, :, 0].sum((1, 2)) == 38).all()


def test_released_lines_by_hand():
    for grid in (GRID, Grid(3, 10), Grid(5, 4)):
        block, comb = released_lines(grid)
        for f in range(grid.freq):
            for t in range(grid.time):
                theirs, ours = t * grid.freq + f, f * grid.time + t
                assert int(block[ours]) == theirs // grid.time
                assert int(comb[ours]) == theirs % grid.time
        # Whatever the grid: F blocks of T patches and T combs of F.
        assert torch.bincount(block).tolist() == [grid.time] * grid.freq
        assert torch.bincount(comb).tolist() == [grid.freq] * grid.time


def test_joint_sees_the_crossings():
    masker = TimeFrequencyMasker(TimeFrequencyOptions(layout="joint", time_ratio=0.7, freq_ratio=0.3))
    assert masker.views == 1
    (cells,) = maps(layout="joint", time_ratio=0.7, freq_ratio=0.3)
    assert (cells.sum((1, 2)) == 19 * 5).all()  # int(64 * .3) columns, int(8 * .7) rows
    assert torch.equal(cells, cells.any(2)[:, :, None] & cells.any(1)[:, None, :])


def test_every_line_is_kept_equally_often():
    rows = 5_000
    time, freq = maps(rows)
    for kept, share in ((time.any(1), 25 / 64), (freq.any(2), 4 / 8)):
        error = (share * (1 - share) / rows) ** 0.5
        assert float((kept.double().mean(0) - share).abs().max()) < 4.5 * error


def test_counts_are_rounded_before_they_are_cut():
    time, freq = maps(5, Grid(10, 10), time_ratio=0.9, freq_ratio=0.7)  # 10 * (1 - 0.9) is 0.999...
    assert int(time[0].sum()) == 10
    assert int(freq[0].sum()) == 30

"""What holds for every masker: exact counts, a sorted partition, randomness from the request alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from masker_requests import request, silent, visible_map

from ssl_wb.api import Grid, Masker, visible_count
from ssl_wb_plugins.maskers.dwm import DwmMasker, DwmOptions
from ssl_wb_plugins.maskers.ibm import IbmMasker, IbmOptions
from ssl_wb_plugins.maskers.random import RandomMasker, RandomOptions
from ssl_wb_plugins.maskers.sgim import SgimMasker, SgimOptions
from ssl_wb_plugins.maskers.structured import StructuredMasker, StructuredOptions, lines_masked
from ssl_wb_plugins.maskers.time_frequency import TimeFrequencyMasker, TimeFrequencyOptions

ratios = st.floats(0.02, 0.98) | st.sampled_from([0.1, 0.3, 0.6, 0.7, 0.8, 0.9])
grids = st.builds(Grid, st.integers(1, 8), st.integers(1, 24))


@st.composite
def one_masker(draw):
    """Return a masker and a function of a grid that says how many patches of each view it leaves visible."""
    ratio, views = draw(ratios), draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["random", "ibm", "dwm", "sgim", "time-frequency", "structured"]))
    if kind == "time-frequency":
        options = TimeFrequencyOptions(
            time_ratio=ratio,
            freq_ratio=draw(ratios),
            pair=draw(st.sampled_from(["tf", "tt", "ff"])),
            layout=draw(st.sampled_from(["paper", "released", "joint"])),
        )
        return TimeFrequencyMasker(options), lambda grid: lines_visible(options, grid)
    if kind == "structured":
        return StructuredMasker(StructuredOptions(ratio=ratio)), None
    if kind == "random":
        masker = RandomMasker(RandomOptions(ratio=ratio, views=views))
    elif kind == "ibm":
        block, grow = draw(st.integers(1, 4)), draw(st.sampled_from(["scatter", "adjacent"]))
        masker = IbmMasker(IbmOptions(ratio=ratio, views=views, block=block, grow=grow))
    elif kind == "sgim":
        hint, solver = draw(st.just("scheduled") | st.floats(0, 1)), draw(st.sampled_from(["eigh", "lanczos", "pca"]))
        start, mask = draw(st.floats(0, 1)), draw(st.sampled_from(["object", "background"]))
        masker = SgimMasker(SgimOptions(ratio=ratio, views=views, hint=hint, solver=solver, start=start, mask=mask))
    else:
        hint = draw(st.just("scheduled") | st.floats(0, 1))
        metric, chance = draw(st.sampled_from(["mad", "variance"])), draw(st.booleans())
        masker = DwmMasker(DwmOptions(ratio=ratio, views=views, hint=hint, metric=metric, probabilistic=chance))
    return masker, lambda grid: [visible_count(grid.cells, ratio)] * views


def lines_visible(options: TimeFrequencyOptions, grid: Grid) -> list[int]:
    columns, rows = (grid.freq, grid.time) if options.layout == "released" else (grid.time, grid.freq)
    columns_kept, rows_kept = visible_count(columns, options.time_ratio), visible_count(rows, options.freq_ratio)
    if options.layout == "joint":
        return [columns_kept * rows_kept]
    return [columns_kept * rows if branch == "t" else rows_kept * columns for branch in options.pair]


def has_room(masker: Masker, grid: Grid) -> bool:
    """Say whether a block of inverse block masking fits into what it leaves visible; where not, it refuses."""
    if not isinstance(masker, IbmMasker):
        return True
    options = masker.options
    return int(round(grid.cells * (1 - options.ratio + options.adjust) / options.block**2, 9)) > 0


def clips(rows: int, grid: Grid, seed: int) -> torch.Tensor:
    """Noise whose patches differ in level; every fifth is silent."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(rows, grid.cells, 4, generator=generator) * torch.rand(1, grid.cells, 1, generator=generator)
    patches[:, ::5] = -1.7
    return patches


@settings(max_examples=250, deadline=None)
@given(one_masker(), grids, st.integers(1, 6), st.integers(0, 2**31), st.floats(0, 1))
def test_exact_sorted_partitions_that_follow_the_seed(case, grid, rows, seed, progress):
    masker, counts = case
    patches = clips(rows, grid, seed)
    assume(has_room(masker, grid))
    masks = masker(request(patches, grid, seed, progress=progress))
    assert len(masks) == masker.views
    if counts is not None:
        assert [mask.visible.shape for mask in masks] == [(rows, count) for count in counts(grid)]
    again = masker(request(patches, grid, seed, progress=progress))
    for mask, same in zip(masks, again, strict=True):
        assert mask.visible.dtype == mask.masked.dtype == torch.int64
        both = torch.cat([mask.visible, mask.masked], dim=1).sort(dim=1).values
        assert torch.equal(both, torch.arange(grid.cells).expand(rows, -1))
        assert torch.equal(mask.visible, mask.visible.sort(dim=1).values)
        assert torch.equal(mask.masked, mask.masked.sort(dim=1).values)
        assert torch.equal(mask.visible, same.visible)


@settings(max_examples=100, deadline=None)
@given(one_masker(), grids, st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**31))
def test_masks_do_not_depend_on_how_the_batch_is_split(case, grid, parts, size, seed):
    masker, _ = case
    assume(has_room(masker, grid))
    patches = clips(parts * size, grid, seed)
    whole = masker(request(patches, grid, seed, progress=0.6))
    shares = [masker(request(patches, grid, seed, progress=0.6, first=part * size, rows=size)) for part in range(parts)]
    for mask, *pieces in zip(whole, *shares, strict=True):
        assert torch.equal(mask.visible, torch.cat([piece.visible for piece in pieces]))


@pytest.mark.parametrize(
    "masker",
    [
        RandomMasker(RandomOptions(views=3)),
        IbmMasker(IbmOptions(views=3)),
        DwmMasker(DwmOptions(views=3)),
        TimeFrequencyMasker(TimeFrequencyOptions(pair="tt")),
        TimeFrequencyMasker(TimeFrequencyOptions(layout="released", pair="ff")),
    ],
    ids=lambda masker: masker.name,
)
def test_views_and_clips_differ_and_so_do_seeds(masker):
    grid = Grid(5, 38)
    masks = silent(masker, 4, grid)
    rows = {tuple(row.tolist()) for mask in masks for row in mask.visible}
    assert len(rows) == 4 * masker.views
    assert not torch.equal(masks[0].visible, silent(masker, 4, grid, seed=1)[0].visible)


def test_one_view_of_random_masking_is_the_same_as_ever():
    # The draws of a single view must not move: recorded runs and the reference values of MATPAC depend on them.
    (mask,) = silent(RandomMasker(RandomOptions(ratio=0.7)), 2, Grid(2, 5), seed=3)
    noise = torch.rand(2, 10, generator=torch.Generator().manual_seed(3))
    assert torch.equal(mask.visible, noise.argsort(dim=1)[:, :3].sort(dim=1).values)


@pytest.mark.parametrize(
    ("share", "rows", "columns"),
    [  # F=8, T=64, r=.5: NF = int(5 U), r' = .5 + .5/64 - NF/8, NT = int(64 r')
        (0.0, 0, 32),
        (0.19, 0, 32),
        (0.2, 1, 24),
        (0.5, 2, 16),
        (0.79, 3, 8),
        (0.99, 4, 0),
    ],
)
def test_lines_of_structured_patchout(share, rows, columns):
    assert lines_masked(Grid(8, 64), 0.5, share) == (rows, columns)


def test_structured_patchout_always_leaves_something_visible():
    assert lines_masked(Grid(1, 40), 0.999, 0.5) == (0, 39)
    assert lines_masked(Grid(4, 40), 0.999, 0.999)[0] == 3


@pytest.mark.parametrize("grid", [Grid(5, 7), Grid(1, 7), Grid(5, 1)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_structured_patchout_always_masks_something(grid, share):
    assert sum(lines_masked(grid, 0.02, share)) >= 1


def test_structured_patchout_masks_whole_rows_and_columns():
    grid = Grid(8, 64)
    counts = set()
    for seed in range(20):
        (mask,) = silent(StructuredMasker(StructuredOptions(ratio=0.5)), 6, grid, seed)
        cells = visible_map(mask, grid)  # [B, F, T]
        rows, columns = cells.any(2), cells.any(1)  # [B, F], [B, T]
        assert torch.equal(cells, rows[:, :, None] & columns[:, None, :])
        assert len(set(rows.sum(1).tolist())) == len(set(columns.sum(1).tolist())) == 1
        rows_masked, columns_masked = 8 - int(rows[0].sum()), 64 - int(columns[0].sum())
        assert (rows_masked, columns_masked) in {(0, 32), (1, 24), (2, 16), (3, 8), (4, 0)}
        counts.add(rows_masked)
        if rows_masked > 0:
            assert len({tuple(row.tolist()) for row in rows}) > 1  # each clip its own
    assert len(counts) >= 4  # the split differs from batch to batch

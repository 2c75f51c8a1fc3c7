"""Inverse block masking against a plain reading of the published procedure."""

from __future__ import annotations

import random

import pytest
import torch
from masker_requests import silent, visible_map

from ssl_wb.api import Grid
from ssl_wb_plugins.maskers.ibm import IbmMasker, IbmOptions
from ssl_wb_plugins.maskers.random import RandomMasker, RandomOptions

DRAWS = 6_000
CASES = [
    (Grid(5, 38), 0.7, 5, 0.07),  # n = 2, nearly always too few painted
    (Grid(8, 64), 0.8, 5, 0.07),  # EAT: n = 5
    (Grid(7, 9), 0.5, 3, 0.9),  # n = 9, mostly too many painted
    (Grid(6, 11), 0.6, 4, 0.1),  # an even block is off centre
]


def by_hand(grid: Grid, ratio: float, block: int, adjust: float, chance: random.Random) -> torch.Tensor:
    """Draw one visible map, bool ``[F, T]``, clip by clip and block by block."""
    cells, share = grid.freq * grid.time, 1 - ratio
    painted = set()
    for _ in range(int(cells * (share + adjust) / block**2)):
        centre = chance.randrange(cells)
        row, column = centre // grid.time, centre % grid.time
        for i in range(block):
            for j in range(block):
                r = min(max(row - block // 2 + i, 0), grid.freq - 1)
                c = min(max(column - block // 2 + j, 0), grid.time - 1)
                painted.add(r * grid.time + c)
    target = int(round(cells * share, 9))
    if len(painted) > target:
        painted -= set(chance.sample(sorted(painted), len(painted) - target))
    else:
        free = sorted(set(range(cells)) - painted)
        painted |= set(chance.sample(free, target - len(painted)))
    visible = torch.zeros(cells, dtype=torch.bool)
    visible[sorted(painted)] = True
    return visible.view(grid)


def neighbours(cells: torch.Tensor) -> torch.Tensor:
    """Count pairs of visible 4-neighbours in bool ``[B, F, T]``; ``[B]``."""
    down = (cells[:, 1:] & cells[:, :-1]).sum((1, 2))
    return (down + (cells[:, :, 1:] & cells[:, :, :-1]).sum((1, 2))).double()


def drawn(grid: Grid, rows: int = DRAWS, seed: int = 0, **options) -> torch.Tensor:
    (mask,) = silent(IbmMasker(IbmOptions(**options)), rows, grid, seed)
    return visible_map(mask, grid)


@pytest.mark.parametrize(("grid", "ratio", "block", "adjust"), CASES)
def test_same_distribution_as_by_hand(grid, ratio, block, adjust):
    ours = drawn(grid, ratio=ratio, block=block, adjust=adjust)
    chance, rows = random.Random(0), 2_000
    theirs = torch.stack([by_hand(grid, ratio, block, adjust, chance) for _ in range(rows)])
    a, b = neighbours(ours), neighbours(theirs)
    error = float((a.var() / DRAWS + b.var() / rows).sqrt())
    assert abs(float(a.mean() - b.mean())) < 4 * error
    assert 0.9 < float(a.std() / b.std()) < 1.1
    # How often each patch is visible: border blocks are cut, so corners differ from the middle.
    p, q = ours.double().mean(0), theirs.double().mean(0)
    spread = ((p * (1 - p)) * (1 / DRAWS + 1 / rows)).sqrt().clamp_min(1e-3)
    assert float(((p - q) / spread).abs().max()) < 5
    assert float(p.std()) > 2 * float(spread.mean())


@pytest.mark.parametrize(("grid", "ratio", "block", "adjust"), CASES[:2])
def test_it_is_not_random_masking(grid, ratio, block, adjust):
    (mask,) = silent(RandomMasker(RandomOptions(ratio=ratio)), DRAWS, grid)
    scattered = neighbours(visible_map(mask, grid)).mean()
    assert neighbours(drawn(grid, ratio=ratio, block=block, adjust=adjust)).mean() > 1.5 * scattered


def test_a_single_block_is_whole_and_the_rest_scattered():
    # n = int(100 * 0.16 / 9) = 1 block of 9 at most, 16 visible.
    grid = Grid(10, 10)
    cells = drawn(grid, 500, ratio=0.84, block=3, adjust=0.0)
    assert (cells.sum((1, 2)) == 16).all()
    inside = torch.nn.functional.avg_pool2d(cells[:, None].double(), 3, 1)  # [B, 1, 8, 8]
    whole = (inside > 0.99).any(3).any(2).squeeze(1)
    # The centre lies on one of the 64 inner patches of 100; otherwise the block is cut.
    assert 0.55 < float(whole.double().mean()) < 0.76


def test_growing_next_to_the_blocks():
    options = {"ratio": 0.84, "block": 3, "adjust": 0.0}  # n = 1 of 9, 16 visible
    grid = Grid(10, 10)
    scattered, adjacent = drawn(grid, **options), drawn(grid, **options, grow="adjacent")
    assert (adjacent.sum((1, 2)) == 16).all()
    assert neighbours(adjacent).mean() > 1.5 * neighbours(scattered).mean()


def test_growth_is_one_piece_where_there_is_one_block():
    # n = int(60 * 0.25 / 9) = 1: whatever is visible hangs together.
    grid = Grid(6, 10)
    cells = drawn(grid, 300, ratio=0.75, block=3, adjust=0.0, grow="adjacent")
    reached = torch.zeros_like(cells)
    first = cells.flatten(1).double().argmax(1)
    reached.view(300, -1)[torch.arange(300), first] = True
    for _ in range(grid.cells):
        wider = reached.clone()
        wider[:, 1:] |= reached[:, :-1]
        wider[:, :-1] |= reached[:, 1:]
        wider[:, :, 1:] |= reached[:, :, :-1]
        wider[:, :, :-1] |= reached[:, :, 1:]
        reached = wider & cells
    assert torch.equal(reached, cells)


@pytest.mark.parametrize("grow", ["scatter", "adjacent"])
def test_a_grid_without_room_for_one_block_is_refused_for_its_masks_would_be_random(grow):
    with pytest.raises(ValueError, match=r"5 x 5 patches .* 5 x 7 grid.* at most 3"):
        drawn(Grid(5, 7), rows=1, ratio=0.7, block=5, grow=grow)
    drawn(Grid(5, 7), rows=1, ratio=0.7, block=3, grow=grow)

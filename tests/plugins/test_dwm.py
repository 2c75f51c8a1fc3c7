"""Dispersion-weighted masking and hints."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from masker_requests import request, visible_map
from pydantic import ValidationError

from ssl_wb.api import Grid, HintOptions, exchange_hints
from ssl_wb.errors import RecipeError
from ssl_wb.recipe.load import load_recipe
from ssl_wb_plugins.maskers.dwm import DwmMasker, DwmOptions, dispersion

DRAWS = 20_000
WEIGHTS = [0.02, 0.05, 0.1, 0.3, 0.5, 1.0, 2.0]
GRID = Grid(1, len(WEIGHTS))
MASKED = 4  # of 7 at ratio 0.5: 7 - int(3.5)


def patches(weights: list[float], rows: int = DRAWS) -> torch.Tensor:
    """Patches of mean 0.4 whose mean absolute deviations are ``weights``."""
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0])
    return (0.4 + torch.tensor(weights)[:, None] * signs).expand(rows, -1, -1)


def inclusion(weights: list[float], count: int) -> torch.Tensor:
    """Return the exact probability that each patch is among ``count`` drawn one after the other by weight."""
    chances = torch.zeros(len(weights), dtype=torch.float64)
    for drawn in permutations(range(len(weights)), count):
        left, chance = sum(weights), 1.0
        for index in drawn:
            chance *= weights[index] / left
            left -= weights[index]
        chances[list(drawn)] += chance
    return chances


def masked_share(options: DwmOptions, pixels: torch.Tensor, grid: Grid = GRID) -> torch.Tensor:
    """Return how often each patch was masked."""
    (mask,) = DwmMasker(options)(request(pixels, grid))
    return (~visible_map(mask, grid)).double().mean(dim=0).flatten()


def assert_shares(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare shares of DRAWS draws; 4.5 standard errors, once in 20 000 tests of 7 patches by chance."""
    error = (expected * (1 - expected) / DRAWS).sqrt()
    assert ((found - expected).abs() <= 4.5 * error + 1e-6).all(), (found, expected)


def test_reference_inclusion_adds_up():
    chances = inclusion(WEIGHTS, MASKED)
    assert float(chances.sum()) == pytest.approx(MASKED)
    assert torch.allclose(inclusion([1.0, 3.0], 1), torch.tensor([0.25, 0.75], dtype=torch.float64))


def test_without_hints_patches_are_drawn_by_weight():
    assert_shares(masked_share(DwmOptions(ratio=0.5, hint=0.0), patches(WEIGHTS)), inclusion(WEIGHTS, MASKED))


def test_variance_squares_the_weights():
    found = masked_share(DwmOptions(ratio=0.5, hint=0.0, metric="variance"), patches(WEIGHTS))
    assert_shares(found, inclusion([weight**2 for weight in WEIGHTS], MASKED))


def test_half_the_choice_exchanged():
    before = inclusion(WEIGHTS, MASKED)
    hints, visible = 2, 7 - MASKED
    again = hints / (visible + hints)  # chance of a visible patch, hints included, to be masked in step 5
    kept = before * (1 - hints / MASKED)
    assert_shares(masked_share(DwmOptions(ratio=0.5, hint=0.5), patches(WEIGHTS)), kept + (1 - kept) * again)


def test_hint_of_one_is_uniform():
    # Weights from 1e-12 to 1e3: any trace of them would show.
    weights = [0.0, 1e-3, *WEIGHTS, 10.0, 1e3]
    found = masked_share(DwmOptions(ratio=0.7, hint=1.0), patches(weights), Grid(1, 11))
    assert float(found.sum()) == pytest.approx(8.0)
    share = 8 / 11
    # Of 11 patches exactly 8 are masked; with that dependence the statistic below is chi-square with 10 degrees.
    chi_square = DRAWS * ((found - share) ** 2 / (share * (1 - share))).sum() * 10 / 11
    assert chi_square < 29.6  # the 99.9 % point


def test_exchange_keeps_what_was_not_hinted():
    grid, count = Grid(2, 10), 12
    hidden = (torch.arange(20) % 5 < 3).expand(DRAWS, -1)
    pixels = torch.zeros(DRAWS, 20, 1)
    for ratio, hints in ((0.0, 0), (0.3, 3), (0.25, 3), (0.5, 6), (1.0, 12)):
        mask = exchange_hints(request(pixels, grid), hidden, ratio)
        assert mask.masked.shape == (DRAWS, count)
        stayed = hidden.gather(1, mask.masked).sum(1)  # [B], masked patches that are of the choice
        assert int(stayed.min()) >= count - hints
        # Of the hints, a share of hints / (8 + hints) is masked again.
        expected = count - hints + hints * hints / (8 + hints)
        assert float(stayed.double().mean()) == pytest.approx(expected, abs=0.06)
        same = exchange_hints(request(pixels, grid), hidden, ratio, count)
        assert torch.equal(mask.masked, same.masked)


def test_the_product_is_rounded_before_it_is_cut():
    # 100 * 0.29 is 28.999999999999996 in floating point, and 29 hints all the same.
    grid = Grid(50, 100)
    hidden = torch.arange(grid.cells).lt(100).expand(20, -1)
    mask = exchange_hints(request(torch.zeros(20, grid.cells, 1), grid), hidden, 0.29)
    # Few of the 5000 are masked again: in some clip all hints stay visible, and 71 of the choice are left.
    assert int(hidden.gather(1, mask.masked).sum(1).min()) == 71


@pytest.mark.parametrize(
    ("gamma", "progress", "ratio"),
    [(2.0, 0.0, 1.0), (2.0, 0.5, 0.75), (2.0, 1.0, 0.0), (1.0, 0.25, 0.75), (8.0, 0.5, 1 - 1 / 256), (0.5, 0.25, 0.5)],
)
def test_schedule(gamma, progress, ratio):
    assert HintOptions(hint_gamma=gamma).hint_ratio(progress) == pytest.approx(ratio)


def test_a_number_is_constant_and_progress_beyond_the_end_is_the_end():
    assert {HintOptions(hint=0.3).hint_ratio(progress) for progress in (0.0, 0.4, 1.0)} == {0.3}
    assert HintOptions().hint_ratio(1.01) == 0.0


def test_schedule_reaches_the_masker():
    # At progress 0.5 the hint is 0.75: 3 of 4 are exchanged.
    (scheduled,) = DwmMasker(DwmOptions(ratio=0.5))(request(patches(WEIGHTS, 50), GRID, progress=0.5))
    (constant,) = DwmMasker(DwmOptions(ratio=0.5, hint=0.75))(request(patches(WEIGHTS, 50), GRID))
    (other,) = DwmMasker(DwmOptions(ratio=0.5))(request(patches(WEIGHTS, 50), GRID, progress=1.0))
    assert torch.equal(scheduled.masked, constant.masked)
    assert not torch.equal(scheduled.masked, other.masked)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dispersion_against_a_plain_loop(dtype):
    pixels = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1)).to(dtype)
    for metric in ("mad", "variance"):
        found = dispersion(pixels, metric)
        assert found.dtype == torch.float32
        for row in range(3):
            for patch in range(5):
                values = [float(value) for value in pixels[row, patch]]
                mean = sum(values) / 7
                gaps = [abs(value - mean) if metric == "mad" else (value - mean) ** 2 for value in values]
                assert float(found[row, patch]) == pytest.approx(sum(gaps) / (7 if metric == "mad" else 6), rel=1e-5)


def test_importance_is_the_normalised_dispersion():
    pixels = patches([0.0, 1.0, 3.0, 0.0], 2)
    weights = DwmMasker(DwmOptions()).importance(request(pixels, Grid(2, 2)))
    assert torch.allclose(weights, torch.tensor([0.0, 0.25, 0.75, 0.0]).expand(2, -1))
    assert (weights > 0).all()
    even = DwmMasker(DwmOptions()).importance(request(torch.full((2, 4, 256), -1.683), Grid(2, 2)))
    assert torch.allclose(even, torch.full((2, 4), 0.25))


@pytest.mark.parametrize("probabilistic", [True, False])
def test_padding_is_chosen_at_random_once_the_loud_patches_are_used_up(probabilistic):
    # 3 loud patches and 8 of padding; 6 are masked.
    pixels = torch.full((DRAWS, 11, 256), -1.683)[:, :, :16].clone()
    pixels[:, 4:7] = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(2))
    share = masked_share(DwmOptions(ratio=0.5, hint=0.0, probabilistic=probabilistic), pixels, Grid(1, 11))
    loud = torch.zeros(11, dtype=torch.bool)
    loud[4:7] = True
    assert (share[loud] > 0.999).all()
    assert_shares(share[~loud], torch.full((8,), 3 / 8, dtype=torch.float64))


def test_deterministic_takes_the_largest():
    share = masked_share(DwmOptions(ratio=0.5, hint=0.0, probabilistic=False), patches(WEIGHTS, 100))
    assert share.tolist() == [0, 0, 0, 1, 1, 1, 1]


RECIPE = """
title = "hints"
[data]
train = "synthetic:scenes"
[masker]
name = "dwm"
hint = {hint}
[backbone]
name = "vit"
[[objective]]
name = "reconstruction"
[predictor]
[optimizer]
lr = 1e-3
[train]
steps = 2
batch_size = 2
"""


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        ('"schedule"', "expected a number or 'scheduled', found the text 'schedule'; did you mean 'scheduled'?"),
        ("1.5", "expected a number of at most 1 or 'scheduled', found 1.5"),
        ("-0.1", "expected a number of at least 0 or 'scheduled', found -0.1"),
        ("true", "expected a number or 'scheduled', found true"),
    ],
)
def test_a_wrong_hint_in_a_recipe_is_told_in_words(tmp_path, hint, message):
    path = tmp_path / "hints.toml"
    path.write_text(RECIPE.format(hint=hint), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert [problem.partition("masker.hint: ")[2] for problem in caught.value.problems] == [message]


def test_right_hints_in_a_recipe(tmp_path):
    path = tmp_path / "hints.toml"
    for hint, value in (("0", 0.0), ("0.4", 0.4), ('"scheduled"', "scheduled")):
        path.write_text(RECIPE.format(hint=hint), encoding="utf-8")
        assert load_recipe(path).masker.options.hint == value


def test_gamma_is_positive():
    with pytest.raises(ValidationError):
        HintOptions(hint_gamma=0.0)

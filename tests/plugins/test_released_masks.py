"""Maskers against values recorded from released code (tests/reference/golden2).

Frequencies are compared by their standard error, sqrt(p (1 - p) (1 / n1 + 1 / n2)), p the recorded frequency.
"""

from __future__ import annotations

import re

import pytest
import torch
from masker_requests import request
from torch.testing import assert_close

from released_code import archive
from ssl_wb.api import Grid, Mask
from ssl_wb.layers.patches import patchify
from ssl_wb_plugins.maskers.dwm import EPSILON, DwmMasker, DwmOptions, dispersion
from ssl_wb_plugins.maskers.ibm import IbmMasker, IbmOptions
from ssl_wb_plugins.maskers.sgim import SgimMasker, SgimOptions

DRAWS = 4000
#: Largest standardised difference over all patches of a mask: 2e-6 two-sided for one, and thousands are compared.
LARGEST_Z = 4.75


def masked_map(mask: Mask, cells: int) -> torch.Tensor:
    """Return float32 ``[B, N]``, 1 where masked."""
    return torch.zeros(len(mask.masked), cells).scatter_(1, mask.masked, 1.0)


def z_scores(found: torch.Tensor, draws: int, published: torch.Tensor, published_draws: int) -> torch.Tensor:
    """Standardise the difference of two frequencies; where nothing ever varies it must be 0."""
    p = (found * draws + published * published_draws) / (draws + published_draws)
    error = (p * (1 - p) * (1 / draws + 1 / published_draws)).sqrt()
    return (found - published).abs() / error.clamp_min(1e-9)


@pytest.fixture(scope="module")
def dwm():
    return archive("dwm_masker")


@pytest.fixture(scope="module")
def patches(dwm):
    return patchify(dwm["spectrogram"].float(), (16, 16))


def grid_of(dwm) -> Grid:
    return Grid(dwm["spectrogram"].shape[1] // 16, dwm["spectrogram"].shape[2] // 16)


@pytest.mark.parametrize("metric", ["mad", "variance"])
def test_dwm_weights_and_probabilities(dwm, patches, metric):
    assert_close(dispersion(patches, metric) + EPSILON, dwm[f"weights_{metric}"], rtol=1e-5, atol=1e-12)
    found = DwmMasker(DwmOptions(metric=metric)).importance(request(patches, grid_of(dwm)))
    assert_close(found, dwm[f"sampling_probability_{metric}"], rtol=1e-5, atol=1e-12)


def test_dwm_frequencies_counts_and_hints(dwm, patches):
    grid = grid_of(dwm)
    clips = len(patches)
    many = patches.repeat_interleave(DRAWS, dim=0)  # [B * draws, N, P]
    for ratio in dwm["config.ratios"].tolist():
        for hint in dwm["hint_values"].tolist():
            options = DwmOptions(ratio=ratio, hint=hint, count="published")
            (mask,) = DwmMasker(options)(request(many, grid, seed=1))
            assert mask.visible.shape[1] == int(dwm[f"visible_count.ratio_{ratio}"])
            found = masked_map(mask, grid.cells).view(clips, DRAWS, -1).mean(dim=1)
            published = dwm[f"frequency.ratio_{ratio}.hint_{hint}"]
            assert z_scores(found, DRAWS, published, int(dwm["draws"])).max() < LARGEST_Z, (ratio, hint)


def test_dwm_without_chance(dwm, patches):
    grid = grid_of(dwm)
    for ratio in dwm["config.ratios"].tolist():
        options = DwmOptions(ratio=ratio, hint=0.0, probabilistic=False, count="published")
        (mask,) = DwmMasker(options)(request(patches, grid))
        assert torch.equal(mask.masked, dwm[f"deterministic_masked.ratio_{ratio}"].sort(dim=1).values)


def _neighbours(visible: torch.Tensor) -> torch.Tensor:
    """Count the visible 4-neighbours of every cell of ``[n, F, T]``."""
    padded = torch.nn.functional.pad(visible, (1, 1, 1, 1))
    return padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]


IBM = archive("ibm_masker")
IBM_CASES = sorted({key.rpartition(".")[0] for key in IBM if key.endswith(".masked_frequency")})


@pytest.mark.parametrize("case", IBM_CASES)
def test_ibm_counts_frequencies_and_neighbours(case):
    grow, sides, ratio = re.fullmatch(r"(\w+)\.grid_(\w+)\.ratio_([\d.]+)", case).groups()
    grid = Grid(*map(int, sides.split("x")))
    options = IbmOptions(
        ratio=float(ratio), block=int(IBM["block"]), adjust=IBM["adjust"].item(), grow=grow, count="published"
    )
    (mask,) = IbmMasker(options)(request(torch.zeros(DRAWS, grid.cells, 1), grid, seed=2))
    assert mask.visible.shape[1] == int(IBM[f"{case}.visible_count"])
    masked = masked_map(mask, grid.cells).view(-1, *grid)
    draws = int(IBM[f"{case}.draws"])
    if grow == "scatter":
        z = z_scores(masked.mean(dim=0), DRAWS, IBM[f"{case}.masked_frequency"], draws)
        assert z.max() < LARGEST_Z
        visible = 1.0 - masked
        share = (_neighbours(visible) * visible).sum(dim=(1, 2)) / visible.sum(dim=(1, 2))  # [n]
        spread = IBM[f"{case}.visible_neighbours_std_over_draws"].item()
        error = spread * (1 / DRAWS + 1 / draws) ** 0.5
        assert abs(share.mean().item() - IBM[f"{case}.visible_neighbours_mean"].item()) < LARGEST_Z * error
    else:  # ours grows by distance, theirs patch by patch: the means lie close, the masks are not the same
        z = (masked.mean(dim=0) - IBM[f"{case}.masked_frequency"]).abs()
        assert z.mean() < 0.05


def test_sgim_scores_as_far_as_they_compare():
    """Their PCA starts from random numbers; of the recorded seeds the masks agree where their own do."""
    io = archive("sgim_masker")
    latents, grid = io["latents"], Grid(int(io["config.F"]) // 16, int(io["config.T"]) // 16)
    options = SgimOptions(
        ratio=io["ratio"].item(), hint=0.0, start=0.0, solver="pca", relevance="nearest-centre", mask="background",
        count="published",
    )  # fmt: skip
    (mask,) = SgimMasker(options)(request(latents, grid, progress=1.0))
    assert mask.visible.shape[1] == int(io["visible_count"])
    ours = masked_map(mask, grid.cells)
    theirs = io["pca_masked"].float()  # [seeds, B, N]
    agreement = (ours == theirs).float().mean(dim=2).max(dim=0).values  # [B]
    assert agreement.min() > 0.99

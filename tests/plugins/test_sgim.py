"""Self-guided informed masking: the cut, the solvers, what is masked."""

from __future__ import annotations

import pytest
import torch
from scipy.linalg import eigh
from scipy.stats import spearmanr
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_wb.api import Grid, MaskRequest
from ssl_wb_plugins.maskers.sgim import SgimMasker, SgimOptions, bipartition, lanczos, object_side, relevance

GRID = Grid(5, 8)


def scene(rows: int = 6, dim: int = 24, inside: int = 12, noise: float = 0.35, seed: int = 0):
    """Latents of two clusters per clip, the object's ``inside`` patches first, and a common direction."""
    generator = torch.Generator().manual_seed(seed)
    object_, ground, common = F.normalize(torch.randn(3, rows, 1, dim, generator=generator), dim=-1)
    member = (torch.arange(GRID.cells) < inside)[None, :, None]
    latents = torch.where(member, object_, ground) + 0.5 * common
    return latents + noise * torch.randn(rows, GRID.cells, dim, generator=generator) / dim**0.5


def request(latents, progress=1.0, seed=0, **split) -> MaskRequest:
    return MaskRequest(
        patches=torch.zeros(len(latents), GRID.cells, 4),
        grid=GRID,
        progress=progress,
        generator=torch.Generator().manual_seed(seed),
        latents=lambda layer=None: latents,
        **split,
    )


def directions(latents):
    return F.normalize(latents.float(), dim=2)


def start(rows: int):
    return torch.rand(rows, GRID.cells, generator=torch.Generator().manual_seed(1))


def test_the_cut_is_the_generalised_eigenvector_of_second_smallest_value():
    unit = directions(scene())
    ours = bipartition(unit, start(6), "eigh", 24)
    for clip, vector in zip(unit.double().numpy(), ours.double(), strict=True):
        affinity = clip @ clip.T
        degree = affinity.sum(axis=1)
        _, vectors = eigh(torch.from_numpy(affinity).sum(1).diag().numpy() - affinity, torch.diag(torch.tensor(degree)))
        cosine = F.cosine_similarity(vector, torch.from_numpy(vectors[:, 1].copy()), dim=0).abs()
        assert cosine > 0.9999


@pytest.mark.parametrize("noise", [0.35, 1.5])
def test_lanczos_ranks_as_the_exact_solver_does(noise):
    unit = directions(scene(rows=16, noise=noise))
    pixels = unit[:, :, :4]
    exact, fast = (
        relevance(unit, object_side(bipartition(unit, start(16), solver, 24), pixels, "louder"), "object")
        for solver in ("eigh", "lanczos")
    )
    correlations = [spearmanr(a, b).statistic for a, b in zip(exact, fast, strict=True)]
    assert sum(correlations) / len(correlations) > 0.99


def test_lanczos_of_as_many_steps_as_cells_is_exact():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 12, 12, generator=generator)
    matrix = matrix @ matrix.transpose(1, 2)
    vectors = torch.linalg.eigh(matrix).eigenvectors
    for place in (1, 2):
        found = lanczos(matrix, torch.rand(4, 12, generator=generator), 12, place)
        assert_close((found * vectors[:, :, -place]).sum(1).abs(), torch.ones(4), rtol=0, atol=1e-3)


def test_the_principal_component_is_that_of_a_plain_decomposition():
    unit = directions(scene())
    sides = bipartition(unit, start(6), "pca", 24)
    centred = unit - unit.mean(1, keepdim=True)
    first = torch.linalg.svd(centred).U[:, :, 0]
    assert_close((sides * first).sum(1).abs(), torch.ones(6), rtol=0, atol=1e-4)


def test_the_object_is_the_louder_side_or_that_of_the_firmest_patch():
    sides = torch.tensor([[0.1, 0.2, -0.9, -0.1], [0.1, 0.2, 0.3, 0.4]])
    patches = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])[:, :, None]
    assert object_side(sides, patches, "louder").tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert object_side(sides, patches, "firmest").tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert torch.equal(object_side(-sides[:1], patches[:1], "louder"), object_side(sides[:1], patches[:1], "louder"))


@pytest.mark.parametrize("solver", ["eigh", "lanczos", "pca"])
def test_the_object_or_the_background_is_masked(solver):
    latents = scene(inside=12)
    options = {"ratio": 0.3, "hint": 0.0, "solver": solver, "start": 0.0}
    (mask,) = SgimMasker(SgimOptions(**options))(request(latents))
    (other,) = SgimMasker(SgimOptions(**options, mask="background"))(request(latents))
    for hidden, opposite in zip(mask.masked, other.masked, strict=True):
        one_side = (hidden < 12).all() or (hidden >= 12).all()
        assert one_side
        assert (hidden[0] < 12) != (opposite[0] < 12)
        assert (opposite < 12).all() or (opposite >= 12).all()


def test_nearest_centre_masks_what_neither_centre_explains():
    latents = scene()
    latents[:, 5] = torch.randn(6, 24, generator=torch.Generator().manual_seed(3)) * 3
    options = SgimOptions(ratio=0.05, hint=0.0, start=0.0, relevance="nearest-centre", mask="background", solver="pca")
    (mask,) = SgimMasker(options)(request(latents))
    assert (mask.masked == 5).any(dim=1).float().mean() > 0.8


def test_random_before_the_start_and_no_latents_are_asked_for():
    def refuse(layer=None):
        raise AssertionError("latents were computed")

    masker = SgimMasker(SgimOptions(start=0.5))
    early = MaskRequest(torch.zeros(2, GRID.cells, 4), GRID, 0.4, torch.Generator().manual_seed(0), latents=refuse)
    (mask,) = masker(early)
    assert mask.visible.shape == (2, 12)
    late = MaskRequest(torch.zeros(2, GRID.cells, 4), GRID, 0.6, torch.Generator().manual_seed(0), latents=refuse)
    with pytest.raises(AssertionError, match="latents were computed"):
        masker(late)


@pytest.mark.parametrize("solver", ["eigh", "lanczos", "pca"])
def test_silence_is_masked_at_random_and_stays_finite(solver):
    latents = torch.ones(50, GRID.cells, 24)
    masker = SgimMasker(SgimOptions(hint=0.0, start=0.0, solver=solver))
    assert masker.importance(request(latents)).isfinite().all()
    (mask,) = masker(request(latents))
    assert len({tuple(row.tolist()) for row in mask.visible}) > 40


def test_the_split_of_the_batch_does_not_matter():
    latents = scene(rows=8, noise=1.0)
    masker = SgimMasker(SgimOptions(start=0.0, hint=0.3))
    (whole,) = masker(request(latents))
    parts = [masker(request(latents[i : i + 2], first_row=i, global_rows=8))[0].visible for i in (0, 2, 4, 6)]
    assert torch.equal(whole.visible, torch.cat(parts))

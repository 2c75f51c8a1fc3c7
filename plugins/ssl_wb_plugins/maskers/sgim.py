"""Self-guided informed masking: the model's own latents say which patches to mask (SG-MAE)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_wb.api import (
    Count,
    Field,
    HintOptions,
    Mask,
    Masker,
    MaskRequest,
    exchange_hints,
    full_precision,
    highest_cells,
    hookimpl,
    unit_vectors,
    visible_count,
)

#: Lower bound of a patch's degree, the sum of its cosines with all patches: it is 0 or less where most are negative.
SMALLEST_DEGREE = 1e-3


class SgimOptions(HintOptions):
    """Options of self-guided informed masking."""

    ratio: float = Field(0.7, gt=0.0, lt=1.0, description="Share of patches masked.")
    count: Count = "exact"
    start: float = Field(
        0.125,
        ge=0.0,
        le=1.0,
        description="Share of the run with random masks, until clusters are usable (SG-MAE: about 50 of 400 epochs).",
    )
    latents: Literal["student", "teacher"] = Field(
        "student",
        description="Whose latents are clustered. The teacher's cost no extra pass where teacher.sees = 'all' and "
        "layer is not given: the pass that computes the targets is used.",
    )
    layer: int | None = Field(
        None, ge=1, description="Block whose output is clustered, counted from 1; the last one, normed, unless given."
    )
    solver: Literal["eigh", "lanczos", "pca"] = Field(
        "lanczos",
        description="How the clip is cut in two: the normalised cut's eigenvector, exact or by Lanczos iteration, or "
        "the first principal component.",
    )
    iterations: int = Field(24, ge=4, le=64, description="Lanczos steps.")
    relevance: Literal["object", "nearest-centre"] = Field(
        "object",
        description="A patch's score: cosine with the object cluster's centre (SG-MAE), or with the nearer of both "
        "centres (the DWM authors' comparison).",
    )
    object: Literal["louder", "firmest"] = Field(
        "louder",
        description="Which side is the object: the louder one, or that of the patch furthest from the cut (TokenCut). "
        "The louder one is more stable: with the firmest patch a little noise swaps the sides of some clips.",
    )
    mask: Literal["object", "background"] = Field(
        "object", description="Mask the patches of highest score (SG-MAE), or of lowest (the DWM authors' comparison)."
    )
    views: int = Field(1, ge=1, le=64, description="Masks per clip; without hints they are all the same.")


def normalised_affinity(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``D^-1/2 M D^-1/2`` with M the cosines of unit vectors ``[B, N, d]`` and D their row sums.

    Returns:
        The matrix ``[B, N, N]`` and ``D^-1/2`` ``[B, N]``.
    """
    # The Gram matrix is built although it has rank d: N is below d, and the iteration then reads N x N, not N x d.
    affinity = directions @ directions.transpose(1, 2)  # [B, N, N]
    scale = affinity.sum(dim=2).clamp_min(SMALLEST_DEGREE).rsqrt()  # [B, N]
    return affinity * scale[:, :, None] * scale[:, None, :], scale


def lanczos(matrix: Tensor, start: Tensor, steps: int, place: int) -> Tensor:
    """Return one of the leading eigenvectors of symmetric matrices by Lanczos iteration, reorthogonalised in full.

    Args:
        matrix: float32 ``[B, N, N]``.
        start: ``[B, N]``, any vectors that are not eigenvectors.
        steps: iterations, at most N.
        place: 1 for the largest eigenvalue, 2 for the second largest.

    Returns:
        ``[B, N]``, of unit length; the sign is arbitrary.
    """
    rows, cells, _ = matrix.shape
    steps = min(steps, cells)
    vector = F.normalize(start, dim=1)
    basis = matrix.new_zeros(rows, steps, cells)  # [B, m, N]
    # In exact arithmetic the matrix is tridiagonal in this basis; beside is the diagonal next to the main one.
    diagonal, beside = matrix.new_zeros(rows, steps), matrix.new_zeros(rows, max(1, steps - 1))
    for step in range(steps):
        basis[:, step] = vector
        image = torch.bmm(matrix, vector[:, :, None]).squeeze(2)  # [B, N]
        diagonal[:, step] = (image * vector).sum(dim=1)
        known = basis[:, : step + 1]
        for _ in range(2):  # subtracting once leaves a rounding error that grows from step to step
            image = image - torch.bmm(torch.bmm(image[:, None], known.transpose(1, 2)), known).squeeze(1)
        length = image.norm(dim=1)  # [B]
        if step + 1 < steps:
            beside[:, step] = length
        # Where nothing is left (silence: all patches are alike) the rest of the basis is zero and has no effect.
        vector = torch.where(length[:, None] > 1e-6, image / length[:, None].clamp_min(1e-6), torch.zeros_like(image))
    inner = torch.diag_embed(diagonal)
    if steps > 1:
        inner = inner + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)  # [B, m, m]
    # eigh of [m, m] with m = 24, in place of [N, N] with N = 190 to 512.
    # Eigenvalues ascend, so -place counts from the largest.
    weights = torch.linalg.eigh(inner).eigenvectors[:, :, -min(place, steps)]  # [B, m]
    return F.normalize(torch.bmm(weights[:, None], basis).squeeze(1), dim=1)


def bipartition(directions: Tensor, start: Tensor, solver: str, iterations: int) -> Tensor:
    """Cut each clip's patches in two.

    The normalised cut takes y of the second-smallest eigenvalue of (D - M) y = l D y, which is D^-1/2 u with u of the
    second-largest eigenvalue of D^-1/2 M D^-1/2, and parts at 0. The principal component parts at the clip's mean.

    Args:
        directions: unit latents ``[B, N, d]``, float32.
        start: ``[B, N]``, where an iteration starts.
        solver: ``eigh``, ``lanczos`` or ``pca``.
        iterations: Lanczos steps.

    Returns:
        float ``[B, N]``: the sign is the side, the size how firmly a patch stands on it.
    """
    if solver == "pca":
        centred = directions - directions.mean(dim=1, keepdim=True)
        return lanczos(centred @ centred.transpose(1, 2), start - start.mean(dim=1, keepdim=True), iterations, place=1)
    matrix, scale = normalised_affinity(directions)
    # The leading eigenvector is D^1/2, which has one sign throughout and cuts nothing; the second one cuts.
    if solver == "eigh":
        vector = torch.linalg.eigh(matrix).eigenvectors[:, :, -2] if matrix.shape[1] > 1 else torch.ones_like(start)
    else:
        # Power iteration is unreliable where the second and third eigenvalue are close; Lanczos is not.
        vector = lanczos(matrix, start - 0.5, iterations, place=2)
    return vector * scale


def object_side(sides: Tensor, patches: Tensor, rule: str) -> Tensor:
    """Return which patches are on the object's side of the cut.

    An eigenvector's sign is arbitrary, so the sides have to be told apart by something else.

    Args:
        sides: ``[B, N]`` of :func:`bipartition`.
        patches: ``[B, N, P]`` pixels of the log spectrogram.
        rule: ``louder``: the side whose patches have the higher mean; ``firmest``: that of the patch furthest from 0.

    Returns:
        float32 ``[B, N]``, 1 on the object's side, else 0.
    """
    upper = (sides >= 0).float()  # [B, N]
    if rule == "firmest":
        firmest = sides.gather(1, sides.abs().argmax(dim=1, keepdim=True))  # [B, 1]
        return torch.where(firmest >= 0, upper, 1.0 - upper)
    loudness = patches.float().mean(dim=2)  # [B, N]
    of_sides = torch.stack([upper, 1.0 - upper])  # [2, B, N]
    # An empty side (all patches alike) has 0 / 0 = NaN for a mean, and is never the louder one.
    means = (of_sides * loudness).sum(dim=2) / of_sides.sum(dim=2)  # [2, B]
    return torch.where((means[0] < means[1])[:, None] | means[0].isnan()[:, None], 1.0 - upper, upper)


def relevance(directions: Tensor, member: Tensor, kind: str) -> Tensor:
    """Score patches by the centres of the two sides.

    Args:
        directions: unit latents ``[B, N, d]``.
        member: ``[B, N]`` of :func:`object_side`.
        kind: ``object``: cosine with the object's centre; ``nearest-centre``: cosine with the nearer of both centres.

    Returns:
        float32 ``[B, N]``, -1 to 1.
    """
    weights = torch.stack([member, 1.0 - member], dim=1)  # [B, 2, N]
    centres = F.normalize(weights @ directions, dim=2)  # [B, 2, d]
    scores = directions @ centres.transpose(1, 2)  # [B, N, 2]
    return scores[:, :, 0] if kind == "object" else scores.amax(dim=2)


class SgimMasker(Masker):
    """Masks one segment of each clip, found by a normalised cut of the model's latents.

    The clip's patches are cut in two by the normalised cut of their cosines; each patch is scored by its cosine with
    the centre of the object, the louder side; the Nm of highest score are masked, and a share of them, falling from 1
    to 0 in the course of training, exchanged for uniform picks. Random masks until ``start``. That the object is the
    louder side is this workbench's choice. The DWM authors' comparison is solver = "pca", relevance = "nearest-centre",
    mask = "background".
    """

    name = "sgim"
    reference = "SG-MAE, arXiv 2507.19773; DWM, arXiv 2603.23810 (comparison)"
    Options = SgimOptions
    options: SgimOptions
    needs_latents = True

    def __init__(self, options: SgimOptions) -> None:
        super().__init__(options)
        self.views = options.views
        self.latents_from = options.latents

    @torch.no_grad()
    def scores(self, request: MaskRequest) -> Tensor:
        """Return each patch's relevance, float32 ``[B, N]``."""
        assert request.latents is not None
        # Drawn before latents are read, so that every solver leaves the generator in the same state.
        start = request.uniform(request.grid.cells)  # [B, N]
        options = self.options
        latents = request.latents(options.layer)  # [B, N, d], in the precision of training; the rest is in float32
        with full_precision(request.patches.device):
            directions = unit_vectors(latents.float())
            sides = bipartition(directions, start, options.solver, options.iterations)
            member = object_side(sides, request.patches, options.object)
            return relevance(directions, member, options.relevance)

    def importance(self, request: MaskRequest) -> Tensor:
        """Return how readily each patch is masked, ``[B, N]``, 0 to 1."""
        sign = 1.0 if self.options.mask == "object" else -1.0
        return (1.0 + sign * self.scores(request)) / 2.0  # [B, N]; a cosine's -1 to 1 becomes 0 to 1

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask per view; ``request.patches`` is ``[B, N, P]``."""
        cells = request.grid.cells
        masked = cells - visible_count(cells, self.options.ratio, self.options.count)
        hint = self.options.hint_ratio(request.progress)
        # At a hint ratio of 1 the exchange would give a random mask as well, after a pass of the encoder for nothing.
        if request.progress < self.options.start or round(masked * hint, 9) >= masked:
            return tuple(Mask.from_scores(request.uniform(cells), cells - masked) for _ in range(self.views))
        wanted = self.importance(request)  # [B, N]
        choices = (highest_cells(wanted, masked, request.uniform(cells)) for _ in range(self.views))
        return tuple(exchange_hints(request, hidden, hint, masked) for hidden in choices)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register self-guided informed masking."""
    return [SgimMasker]

"""Dispersion-weighted masking: patches with much contrast in them are masked more often (DWM)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ssl_wb.api import (
    Count,
    Field,
    HintOptions,
    Mask,
    Masker,
    MaskRequest,
    exchange_hints,
    highest_cells,
    hookimpl,
    visible_count,
)

#: Added to every dispersion, so that patches of digital silence can be drawn too, all with the same weight.
EPSILON = 1e-12
#: Half the step of float32's uniform draws (2 ** -24). It replaces a draw of 0, whose logarithm is not finite.
SMALLEST_DRAW = 2.0**-25


class DwmOptions(HintOptions):
    """Options of dispersion-weighted masking."""

    ratio: float = Field(0.7, gt=0.0, lt=1.0, description="Share of patches masked.")
    count: Count = "exact"
    metric: Literal["mad", "variance"] = Field(
        "mad", description="A patch's dispersion: mean absolute deviation from its mean, or variance."
    )
    probabilistic: bool = Field(
        True, description="Draw patches in proportion to their dispersion; false takes the most dispersed."
    )
    views: int = Field(1, ge=1, le=64, description="Masks per clip.")


def dispersion(patches: Tensor, metric: Literal["mad", "variance"]) -> Tensor:
    """Return how far each patch's pixels ``[..., P]`` lie from their mean, float32 ``[...]``.

    ``mad`` is ``mean |p - mean(p)|``, ``variance`` is the unbiased one, over P - 1.
    """
    patches = patches.float()  # the deviations of a quiet patch are small beside its mean
    if metric == "variance":
        return patches.var(dim=-1)
    deviation = patches - patches.mean(dim=-1, keepdim=True)
    return deviation.abs_().mean(dim=-1)


class DwmMasker(Masker):
    """Masks patches in proportion to the dispersion of their pixels, and mixes in random ones as hints.

    Nm patches are drawn without replacement with probability proportional to w = MAD + 1e-12; a share of them, falling
    from 1 to 0 in the course of training, is then exchanged for uniform picks: from random masking to hard masking.
    """

    name = "dwm"
    reference = "DWM, arXiv 2603.23810, section III, algorithm 1"
    Options = DwmOptions
    options: DwmOptions

    def __init__(self, options: DwmOptions) -> None:
        super().__init__(options)
        self.views = options.views

    def importance(self, request: MaskRequest) -> Tensor:
        """Return the weights ``[B, N]`` by which patches are drawn, sum 1 in every clip."""
        weights = dispersion(request.patches, self.options.metric) + EPSILON  # [B, N]
        return weights / weights.sum(dim=1, keepdim=True)

    def __call__(self, request: MaskRequest) -> tuple[Mask, ...]:
        """Return one mask per view; ``request.patches`` is ``[B, N, P]``."""
        weights = self.importance(request)
        masked = request.grid.cells - visible_count(request.grid.cells, self.options.ratio, self.options.count)
        ratio = self.options.hint_ratio(request.progress)
        return tuple(
            exchange_hints(request, self._choose(request, weights, masked), ratio, masked) for _ in range(self.views)
        )

    def _choose(self, request: MaskRequest, weights: Tensor, count: int) -> Tensor:
        """Choose ``count`` patches by weights ``[B, N]``; bool ``[B, N]``."""
        # Not torch.multinomial: with request.uniform a clip gets the same draws, however the batch is split.
        noise = request.uniform(request.grid.cells)  # [B, N]
        if not self.options.probabilistic:
            return highest_cells(weights, count, noise)
        # Gumbel top-k: with E ~ Exp(1), -ln E is Gumbel noise, and the Nm largest of ln w - ln E are draws without
        # replacement in proportion to w. log1p(-noise): noise lies in [0, 1), so 1 - noise is never 0.
        race = -torch.log1p(-noise)  # [B, N], E ~ Exp(1)
        order = (weights.log() - race.clamp_min(SMALLEST_DRAW).log()).argsort(dim=1, descending=True, stable=True)
        hidden = torch.zeros_like(weights, dtype=torch.bool)
        return hidden.scatter_(1, order[:, :count], True)


@hookimpl
def ssl_wb_maskers() -> list[type[Masker]]:
    """Register dispersion-weighted masking."""
    return [DwmMasker]

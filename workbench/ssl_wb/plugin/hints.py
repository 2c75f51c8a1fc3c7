"""Hints: an informed masker leaves part of its choice visible and masks random patches instead (DWM, SG-MAE)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ssl_wb.plugin.base import PluginOptions
from ssl_wb.plugin.masker import Mask, MaskRequest

__all__ = ["HintOptions", "exchange_hints", "highest_cells"]


class HintOptions(PluginOptions):
    """Options of a masker that gives hints; a masker adds its own ``ratio``.

    An informed masker hides the hard patches. From the first step on that would be too hard a task, so training starts
    with random masks and moves to informed ones.
    """

    hint: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["scheduled"] = Field(
        "scheduled",
        description="Share of the chosen patches exchanged for random ones: 0 masks by weight alone, 1 at random; "
        "'scheduled' falls from 1 to 0 as 1 - progress ** hint_gamma.",
    )
    hint_gamma: float = Field(
        2.0, gt=0.0, description="Exponent of the scheduled hint; the larger, the later it falls."
    )

    def hint_ratio(self, progress: float) -> float:
        """Return the share of hints after ``progress`` of the run, both 0 to 1."""
        # SemMAE's schedule; DWM tried exponents 1, 2, 4 and 8, and 2 was best.
        if self.hint == "scheduled":
            return 1.0 - math.pow(min(max(progress, 0.0), 1.0), self.hint_gamma)
        return self.hint


def highest_cells(scores: Tensor, count: int, noise: Tensor) -> Tensor:
    """Choose the ``count`` cells of highest score in each row; of equal ones (silence, padding) chance decides.

    Args:
        scores: float ``[B, N]``.
        count: cells to choose.
        noise: ``[B, N]``, uniform in [0, 1).

    Returns:
        bool ``[B, N]``.
    """
    # A stable sort keeps equal scores in their order, so the cells are shuffled before it.
    shuffled = noise.argsort(dim=1, stable=True)  # [B, N]
    by_score = scores.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, shuffled.gather(1, by_score)[:, :count], True)


def _pick(among: Tensor, count: int, noise: Tensor) -> Tensor:
    """Pick ``count`` True cells of each row of ``among`` uniformly.

    Args:
        among: bool ``[B, N]``, at least ``count`` True per row.
        count: cells to pick.
        noise: ``[B, N]``, uniform in [0, 1).

    Returns:
        bool ``[B, N]``.
    """
    # 2.0 is above every draw, so that other cells come last.
    # Stable: equal draws are ordered the same way on every device and for every batch size.
    order = noise.masked_fill(~among, 2.0).argsort(dim=1, stable=True)  # [B, N]
    return torch.zeros_like(among).scatter_(1, order[:, :count], True)


def exchange_hints(request: MaskRequest, hidden: Tensor, ratio: float, masked: int | None = None) -> Mask:
    """Make a share of an informed choice visible again, and mask as many random patches in their place.

    With ratio 0 the choice stands; with 1 the mask is exactly uniform. A hint may be masked again (DWM,
    algorithm 1).

    Args:
        request: source of the randomness.
        hidden: bool ``[B, N]``, the choice: Nm True in every row.
        ratio: share of Nm exchanged, 0 to 1.
        masked: Nm, where the caller knows it; otherwise it is counted, and the host has to wait for a GPU.

    Returns:
        A mask with Nm masked patches in every row.
    """
    cells = hidden.shape[1]
    masked = int(hidden[0].sum()) if masked is None else masked
    hints = int(round(masked * ratio, 9))  # rounded as in visible_count: 10 patches at 0.3 are 3 hints
    noise = request.uniform(2, cells)  # [B, 2, N]
    # The replacements are drawn from everything visible, the hints included. With ratio 1 that is all N patches, and
    # the mask is exactly uniform.
    shown = ~hidden | _pick(hidden, hints, noise[:, 0])  # [B, N], V' of the paper: Nv + hints
    return Mask.from_scores((~shown | _pick(shown, hints, noise[:, 1])).float(), cells - masked)

"""Exponential moving averages of weights, and the linear schedule of their decay."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ema_update", "linear_schedule"]


def linear_schedule(start: float, end: float, step: int, steps: int) -> float:
    """Return the value at ``step`` of a line from ``start`` (step 0) to ``end`` (``steps`` and after)."""
    if steps <= 0 or step >= steps:
        return end
    return start + (end - start) * (step / steps)


@torch.no_grad()
def ema_update(average: nn.Module, source: nn.Module, decay: float) -> None:
    """Move every parameter of ``average`` to ``decay * average + (1 - decay) * source``.

    Both modules have the same parameters in the same order. The average is kept in float32: at a decay of 0.99999 an
    update changes a weight by 1e-5 of a difference, which half precision would round away.
    """
    averages: list[Tensor] = list(average.parameters())
    if not averages:
        return
    # lerp towards the source with weight 1 - decay is the same line in one fused call over all tensors.
    torch._foreach_lerp_(averages, [parameter.detach() for parameter in source.parameters()], 1.0 - decay)

"""Fixed two-dimensional sine-cosine positions (MAE)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ssl_wb.layers.patches import Grid

__all__ = ["sincos_2d", "sinusoid_1d"]


def _sincos_1d(places: Tensor, dim: int) -> Tensor:
    """Code places ``[N]`` as ``[N, dim]``: sines in the first half, cosines in the second."""
    # In float64, as the published tables; in float32 the angles of far places would lose digits.
    rates = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))  # [dim / 2]
    angles = places.double()[:, None] * rates  # [N, dim / 2]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_2d(grid: Grid, dim: int, first: Literal["time", "frequency"] = "time") -> Tensor:
    """Return the position table of a grid, frequency-major (MAE).

    One half of the width codes time, the other one frequency. A shorter grid's table is the first columns of a
    longer one's, so any clip length shares one code.

    Args:
        grid: the patch grid.
        dim: width, a multiple of 4.
        first: what the first half codes: time (M2D, MSM-MAE, MATPAC) or frequency (EAT).

    Returns:
        float32 ``[N, dim]``.
    """
    if dim % 4:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, not {dim}")
    time = torch.arange(grid.time).repeat(grid.freq)  # [N]
    freq = torch.arange(grid.freq).repeat_interleave(grid.time)  # [N]
    halves = [_sincos_1d(time, dim // 2), _sincos_1d(freq, dim // 2)]
    return torch.cat(halves if first == "time" else halves[::-1], dim=1).float()


def sinusoid_1d(count: int, dim: int) -> Tensor:
    """Return the positions 0 .. count - 1 of the first transformer: float32 ``[count, dim]``, sines at even places.

    MSM-MAE's first release numbers the patches so in its decoder.
    """
    angles = torch.arange(count, dtype=torch.float64)[:, None] / 10000.0 ** (
        2 * (torch.arange(dim, dtype=torch.float64) // 2) / dim
    )  # [count, dim]
    table = torch.empty_like(angles)
    table[:, 0::2], table[:, 1::2] = angles[:, 0::2].sin(), angles[:, 1::2].cos()
    return table.float()

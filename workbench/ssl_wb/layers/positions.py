"""Fixed two-dimensional sine-cosine positions (MAE)."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_wb.layers.patches import Grid

__all__ = ["sincos_2d"]


def _sincos_1d(places: Tensor, dim: int) -> Tensor:
    """Code places ``[N]`` as ``[N, dim]``: sines in the first half, cosines in the second."""
    # In float64, as the published tables; in float32 the angles of far places would lose digits.
    rates = 10000.0 ** (-torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))  # [dim / 2]
    angles = places.double()[:, None] * rates  # [N, dim / 2]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_2d(grid: Grid, dim: int) -> Tensor:
    """Return the position table of a grid, frequency-major (MAE).

    The first half of the width codes time, the second half frequency. A shorter grid's table is the first columns of a
    longer one's, so any clip length shares one code.

    Args:
        grid: the patch grid.
        dim: width, a multiple of 4.

    Returns:
        float32 ``[N, dim]``.
    """
    if dim % 4:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, not {dim}")
    time = torch.arange(grid.time).repeat(grid.freq)  # [N]
    freq = torch.arange(grid.freq).repeat_interleave(grid.time)  # [N]
    return torch.cat([_sincos_1d(time, dim // 2), _sincos_1d(freq, dim // 2)], dim=1).float()

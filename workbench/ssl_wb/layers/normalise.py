"""Normalisation of targets."""

from __future__ import annotations

from torch import Tensor

__all__ = ["standardise_rows"]


def standardise_rows(rows: Tensor) -> Tensor:
    """Standardise ``[..., D]`` over its last axis, in float32: unbiased variance + 1e-6.

    So MAE treats the pixels of a patch and M2D the features of a latent.
    """
    rows = rows.float()
    return (rows - rows.mean(dim=-1, keepdim=True)) / (rows.var(dim=-1, keepdim=True) + 1e-6).sqrt()

"""Normalisation of vectors along their last axis, always in float32."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["standardise_rows", "unit_vectors"]


def standardise_rows(rows: Tensor) -> Tensor:
    """Standardise ``[..., D]`` over its last axis, in float32: subtract the mean, divide by sqrt(variance + 1e-6).

    MAE treats the pixels of a patch in this way (``norm_pix_loss``), and M2D the features of a target latent.
    """
    rows = rows.float()
    # The variance is unbiased (n - 1), as in MAE. 1e-6 keeps a constant row (digital silence, padding) at 0.
    return (rows - rows.mean(dim=-1, keepdim=True)) / (rows.var(dim=-1, keepdim=True) + 1e-6).sqrt()


def unit_vectors(features: Tensor) -> Tensor:
    """Divide each vector of ``[..., D]`` by its L2 norm, in float32; a zero vector stays zero.

    A cosine is a product of two of these. bf16 keeps 8 significant bits, so that a length in bf16 would be wrong by up
    to 0.4 %, and the cosine with it.
    """
    return F.normalize(features.float(), dim=-1)

"""Figures that tell a collapsing representation from a healthy one."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_wb.layers.normalise import unit_vectors

__all__ = ["collapse_figures", "direction_std", "effective_rank", "feature_std", "uniformity"]


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Root mean square over dimensions of the standard deviation over rows.

    Args:
        features: ``[..., D]``; all but the last axis are rows.

    Returns:
        Scalar; 0 when every row is the same.
    """
    rows = features.detach().float().flatten(0, -2)  # [rows, D]
    # The mean is taken of the variances, not of the deviations: the square of the figure is the variance per dimension.
    return rows.var(dim=0, unbiased=False).mean().sqrt()


@torch.no_grad()
def direction_std(features: Tensor) -> Tensor:
    """Spread of directions: :func:`feature_std` of the L2-normalised rows, times ``sqrt(D)``.

    About 1 when rows point everywhere, 0 when all point one way, whatever their length.

    Args:
        features: ``[..., D]``.

    Returns:
        Scalar.
    """
    # A unit vector's D entries have a mean square of 1 / D: sqrt(D) makes the figure independent of the width.
    return feature_std(unit_vectors(features.detach())) * features.shape[-1] ** 0.5


@torch.no_grad()
def effective_rank(features: Tensor, rows: int = 2048) -> Tensor:
    """Effective rank ``exp(H(p))``, ``p`` the singular values of centred features over their sum (Roy, Vetterli 2007).

    Args:
        features: ``[..., D]``; all but the last axis are rows, of which evenly spaced ``rows`` are used.
        rows: most rows used, to bound the cost.

    Returns:
        Scalar between 1 and ``D``; about 1 when all rows lie on a line, 0 when all are equal, NaN when one is not
        finite.
    """
    flat = features.detach().flatten(0, -2)  # [n, D]
    if len(flat) > rows:
        # Evenly spaced and not the first ones: those would be the patches of a few clips only.
        flat = flat[:: len(flat) // rows][:rows]
    # Centred, or the common mean would be the one large singular value and hide the spread around it.
    flat = flat.double()
    centred = flat - flat.mean(dim=0)
    # Singular values by the D x D (or n x n) Gram matrix: cheaper than an SVD, and exact enough for a health figure.
    # Squaring halves the digits, so all is float64 from here; rounding makes some eigenvalues a little negative.
    gram = centred.T @ centred if centred.shape[0] >= centred.shape[1] else centred @ centred.T
    if not bool(gram.isfinite().all()):  # a run that diverges; the solver would raise, and hide that
        return torch.full((), math.nan, device=features.device)
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()  # [min(n, D)]
    total = values.sum()
    if total <= 1e-8:  # all rows equal: p would be 0 / 0
        return torch.zeros((), device=features.device)
    p = values / total
    return torch.exp(-(p * (p + 1e-12).log()).sum()).float()  # + 1e-12: 0 log 0 is 0


def collapse_figures(prediction: Tensor, target: Tensor) -> dict[str, Tensor | float]:
    """Measure what a collapse shows in first: how much predictions and targets differ from row to row.

    A collapsed encoder predicts its own constant targets perfectly, so the loss does not tell it.

    Args:
        prediction: ``[..., D]`` of some masked patches.
        target: ``[..., D]``, what was to be predicted.

    Returns:
        ``prediction_std`` and ``target_std`` (:func:`direction_std`), ``target_rank`` (:func:`effective_rank`).
    """
    return {
        "prediction_std": direction_std(prediction),
        "target_std": direction_std(target),
        "target_rank": effective_rank(target),
    }


@torch.no_grad()
def uniformity(embeddings: Tensor) -> Tensor:
    """Log of the mean of exp(-2 |x - y|^2) over pairs of different rows, L2-normalised first.

    From 0, all alike, down to about -4, spread evenly over the sphere (Wang, Isola 2020, arXiv 2005.10242).

    Args:
        embeddings: ``[n, D]``, n at least 2; computed in float32, or float64 where they come so.

    Returns:
        Scalar.
    """
    rows = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    squared = torch.pdist(F.normalize(rows, dim=1)).square()  # [n (n - 1) / 2]
    # The logarithm of a mean as logsumexp minus log n: the exponentials themselves may underflow.
    return torch.logsumexp(-2.0 * squared, dim=0) - math.log(len(squared))

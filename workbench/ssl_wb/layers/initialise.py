"""Initial weights."""

from __future__ import annotations

from torch import nn

__all__ = ["initialise", "initialise_normal", "initialise_trunc_normal"]


def initialise(module: nn.Module) -> None:
    """Draw weights as MAE, M2D and MATPAC do: Xavier-uniform matrices, zero biases, unit norms.

    For use with ``module.apply``.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
    _plain(module)


def initialise_trunc_normal(module: nn.Module) -> None:
    """Draw weights as timm and AudioMosaic do: truncated normal of standard deviation 0.02, zero biases, unit norms.

    For use with ``module.apply``.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
    _plain(module)


def initialise_normal(module: nn.Module) -> None:
    """Draw weights as BERT and EAT do: linear maps normal of deviation 0.02, zero biases, unit norms.

    Convolutions keep torch's own weights. For use with ``module.apply``.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
    if not isinstance(module, nn.Conv2d):
        _plain(module)


def _plain(module: nn.Module) -> None:
    """Set biases to zero and norms to one."""
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)

"""Initial weights."""

from __future__ import annotations

from torch import nn

__all__ = ["initialise"]


def initialise(module: nn.Module) -> None:
    """Draw weights as MAE, M2D and MATPAC do: Xavier-uniform matrices, zero biases, unit norms (METHODS D).

    For use with ``module.apply``.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)

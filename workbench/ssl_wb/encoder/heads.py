"""Modules behind an encoder that a checkpoint brings along: projectors and classifiers, described by plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.errors import DataError, did_you_mean
from ssl_wb.layers.transformer import Block

__all__ = ["build_head"]


class Mean(nn.Module):
    """Mean over tokens: ``[n, K, D]`` to ``[n, D]``."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[n, K, D]`` to ``[n, D]``."""
        return tokens.mean(dim=1)


class BatchNorm(nn.Module):
    """Batch norm of ``[n, D]`` by stored statistics alone.

    Args:
        num_features: D.
        affine: whether there is a scale and a shift after it.
        eps: added to the variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, affine: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, values: Tensor) -> Tensor:
        """Map ``[n, D]`` to ``[n, D]``."""
        return F.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class SemanticToken(nn.Module):
    """A learned token reads all tokens of a clip through transformer blocks with one head (M2D-CLAP of 2025).

    Args:
        dim: width.
        depth: blocks.
        hidden: hidden width of their MLPs.
        eps: of every LayerNorm.
    """

    def __init__(self, dim: int, depth: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(Block(dim, 1, hidden / dim, norm_eps=eps) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``[n, K, D]`` to ``[n, D]``."""
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1)  # [n, 1 + K, D]
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens[:, 0])


#: Layers by name; a description is ``{"layer": NAME, **arguments}``.
LAYERS: dict[str, type[nn.Module]] = {
    "linear": nn.Linear,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "layer-norm": nn.LayerNorm,
    "batch-norm": BatchNorm,
    "mean": Mean,
    "semantic-token": SemanticToken,
}


def build_head(layers: list[Mapping[str, Any]]) -> nn.Sequential:
    """Build a head of its layers.

    Args:
        layers: each ``{"layer": NAME, ...}`` with the arguments of the layer.

    Raises:
        DataError: a layer is not known, or its arguments do not fit.
    """
    built: list[nn.Module] = []
    for layer in layers:
        arguments = dict(layer)
        name = str(arguments.pop("layer", ""))
        if name not in LAYERS:
            raise DataError(f"no layer of a head is called {name!r}{did_you_mean(name, LAYERS)}")
        try:
            built.append(LAYERS[name](**arguments))
        except TypeError as error:
            raise DataError(f"layer {name!r} of a head: {error}") from error
    return nn.Sequential(*built)

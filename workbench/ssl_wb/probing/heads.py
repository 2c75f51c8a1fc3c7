"""Heads: small modules on frozen embeddings, and how their parameters are grouped for Adam."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssl_wb.probing.inputs import Inputs

__all__ = ["Head", "LinearHead", "linear_layer", "logits_of"]

#: Standard deviation of a linear layer's first weights. Small: training moves weights only along directions that the
#: training clips span, so along all others the first weights stay and add noise to the scores of test clips.
INIT_STD = 0.01


class Head(nn.Module):
    """A head: ``forward`` maps inputs ``[n, ...]`` to logits ``[n, C]`` (``[n, 1]`` for a number)."""

    def groups(self, settings: dict[str, Any]) -> list[dict[str, Any]]:
        """Return Adam's parameter groups: by default matrices are decayed and vectors are not.

        Args:
            settings: one point of the grid, with ``lr`` and perhaps ``weight_decay``.
        """
        matrices = [parameter for parameter in self.parameters() if parameter.dim() > 1]
        vectors = [parameter for parameter in self.parameters() if parameter.dim() <= 1]
        return [
            {"params": matrices, "lr": settings["lr"], "weight_decay": settings.get("weight_decay", 0.0)},
            {"params": vectors, "lr": settings["lr"]},
        ]


def linear_layer(width: int, outputs: int) -> nn.Linear:
    """Return a Linear with small first weights and bias 0."""
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=INIT_STD)
    nn.init.zeros_(layer.bias)
    return layer


class LinearHead(Head):
    """A linear layer: ``[n, D]`` to ``[n, C]``."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = linear_layer(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``[n, C]`` of embeddings ``[n, D]``."""
        return self.linear(inputs)


@torch.no_grad()
def logits_of(heads: Sequence[Head], inputs: Inputs, at_once: int) -> Tensor:
    """Return logits ``[R, n, C]`` of R heads in evaluation mode, for n inputs read ``at_once`` at a time."""
    for head in heads:
        head.eval()
    parts = [inputs[first : first + at_once] for first in range(0, len(inputs), at_once)]
    return torch.cat([torch.stack([head(part) for head in heads]) for part in parts], dim=1)

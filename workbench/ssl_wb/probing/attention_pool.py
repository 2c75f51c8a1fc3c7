"""A learned query that attends to the layers or the frames of a clip."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssl_wb.probing.heads import Head, linear_layer

__all__ = ["AttentionPool"]

#: Standard deviation of the query's first values (AudioMosaic).
QUERY_STD = 0.02


class AttentionPool(Head):
    """Attention of one learned query with one head over K embeddings; then LayerNorm and Linear.

    AudioMosaic's attentive probe: LayerNorm, keys and values without bias, softmax, weighted sum, LayerNorm, Linear.
    The query is multiplied into the key projection, and values are projected after their sum, not before. Both are
    linear, so the result is the same, with one projection in place of 2 K.

    Args:
        norms: gains and shifts of the first LayerNorm: K, one for each place, or 1 for all.
        width: width of the embeddings, D.
        outputs: C.
        inner: width of keys and values.
    """

    def __init__(self, norms: int, width: int, outputs: int, inner: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(norms, width))
        self.shift = nn.Parameter(torch.zeros(norms, width))
        self.query = nn.Parameter(torch.empty(inner).normal_(std=QUERY_STD))
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.norm = nn.LayerNorm(inner, eps=1e-6)
        self.linear = linear_layer(inner, outputs)

    def forward(self, inputs: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return logits ``[n, C]`` of ``[n, K, D]``; places in ``hidden``, bool ``[n, K]``, are left out."""
        normed = self._normalise(inputs)
        mixed = (self._attend(normed, hidden)[:, None] @ normed)[:, 0]  # [n, D]
        return self.linear(self.norm(self.value(mixed)))

    def weights(self, inputs: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return the attention weights ``[n, K]`` of ``[n, K, D]``; they sum to 1 and are 0 in ``hidden``."""
        return self._attend(self._normalise(inputs), hidden)

    def _normalise(self, inputs: Tensor) -> Tensor:
        return nn.functional.layer_norm(inputs, inputs.shape[-1:], eps=1e-6) * self.gain + self.shift  # [n, K, D]

    def _attend(self, normed: Tensor, hidden: Tensor | None) -> Tensor:
        direction = self.key.weight.T @ self.query / len(self.query) ** 0.5  # [D]
        logits = normed @ direction  # [n, K]
        if hidden is not None:
            logits = logits.masked_fill(hidden, float("-inf"))
        return logits.softmax(dim=1)

    def groups(self, settings: dict[str, Any]) -> list[dict[str, Any]]:
        """Return Adam's groups; the LayerNorms (a matrix here, for K norms) and the query are not decayed."""
        matrices = [self.key.weight, self.value.weight, self.linear.weight]
        others = [one for one in self.parameters() if not any(one is matrix for matrix in matrices)]
        return [
            {"params": matrices, "lr": settings["lr"], "weight_decay": settings["weight_decay"]},
            {"params": others, "lr": settings["lr"]},
        ]

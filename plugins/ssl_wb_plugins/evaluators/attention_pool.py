"""A learned query that attends to the layers or the frames of a clip."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ssl_wb_plugins.evaluators.teams import Head, linear_layer

__all__ = ["AttentionPool"]

#: Spread of the query's first values (AudioMosaic).
QUERY_STD = 0.02


class AttentionPool(Head):
    """Attention of one learned query with one head over K places, LayerNorm before; then LayerNorm and Linear.

    AudioMosaic's attentive probe. The query meets the keys in one vector and the values are projected after their sum,
    which is the same and costs one projection in place of 2 K.

    Args:
        norms: gains and shifts of the LayerNorm before: K, one for each place, or 1 for all.
        width: of the embeddings, D.
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

    def _normed(self, places: Tensor) -> Tensor:
        """Normalise each embedding of ``[n, K, D]``."""
        return nn.functional.layer_norm(places, places.shape[-1:], eps=1e-6) * self.gain + self.shift

    def _shares(self, normed: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return the share of each place, ``[n, K]``, for ``[n, K, D]``; ``hidden``, bool ``[n, K]``, have none."""
        seeker = self.key.weight.T @ self.query / len(self.query) ** 0.5  # [D]
        meeting = normed @ seeker  # [n, K]
        if hidden is not None:
            meeting = meeting.masked_fill(hidden, float("-inf"))
        return meeting.softmax(dim=1)

    def _pooled(self, places: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return logits ``[n, C]`` of ``[n, K, D]``, of which places in ``hidden``, bool ``[n, K]``, are left out."""
        normed = self._normed(places)
        mixed = (self._shares(normed, hidden)[:, None] @ normed)[:, 0]  # [n, D]
        return self.linear(self.norm(self.value(mixed)))

    def groups(self, point: dict[str, Any]) -> list[dict[str, Any]]:
        """Return Adam's groups; norms and the query are not decayed."""
        matrices = [self.key.weight, self.value.weight, self.linear.weight]
        others = [one for one in self.parameters() if not any(one is matrix for matrix in matrices)]
        return [
            {"params": matrices, "lr": point["lr"], "weight_decay": point["weight_decay"]},
            {"params": others, "lr": point["lr"]},
        ]

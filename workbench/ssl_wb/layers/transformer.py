"""The pre-norm transformer block of ViT, shared by backbone and predictor."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ssl_wb.layers.attention import AttentionName, packed_attention, split_attention

__all__ = ["Attention", "Block", "Mlp"]


class Attention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value.

    Without ``key_bias`` only query and value have one (BEiT, MSM-MAE's first release). Both compute the same functions:
    a bias of the keys adds the same number to all scores of a query, which the softmax cancels.

    Attributes:
        kernel: what computes the attention, "sdpa" until ``ssl_wb.training`` chooses for the device.
    """

    def __init__(self, dim: int, heads: int, key_bias: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a width of {dim}")
        self.heads = heads
        self.kernel: AttentionName = "sdpa"
        self.qkv = nn.Linear(dim, dim * 3, bias=key_bias)
        self.q_bias = None if key_bias else nn.Parameter(torch.zeros(dim))
        self.v_bias = None if key_bias else nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def _bias(self) -> Tensor:
        """Return the bias of queries, keys and values, ``[3 D]``."""
        if self.q_bias is None or self.v_bias is None:
            return self.qkv.bias
        return torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])

    def _project(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to queries, keys and values ``[B, K, 3 D]``."""
        return self.qkv(tokens) if self.q_bias is None else F.linear(tokens, self.qkv.weight, self._bias())

    def forward(self, tokens: Tensor, last: int | None = None) -> Tensor:
        """Map tokens ``[B, K, D]`` to ``[B, K, D]``, or to ``[B, last, D]`` of the last ones, which attend to all."""
        batch, count, dim = tokens.shape
        width = dim // self.heads
        if last is None:
            # One product for all three, [3 D, D]: the order of its rows is (query, key, value), then heads.
            qkv = self._project(tokens).view(batch, count, 3, self.heads, width)
            return self.proj(packed_attention(qkv, self.kernel))
        # Keys and values of all tokens, queries of the last ones only: rows 0 to D of the weight, and the rest.
        weight, bias = self.qkv.weight, self._bias()
        query = F.linear(tokens[:, count - last :], weight[:dim], bias[:dim]).view(batch, last, self.heads, width)
        key, value = F.linear(tokens, weight[dim:], bias[dim:]).view(batch, count, 2, self.heads, width).unbind(2)
        return self.proj(split_attention(query, key, value, self.kernel))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, K, D]`` to ``[B, K, D]``."""
        return self.fc2(self.act(self.fc1(tokens)))


class Block(nn.Module):
    """Attention and MLP, each behind a LayerNorm (eps 1e-6 unless given) and added to its input.

    Attributes:
        compiled: compute by a kernel that torch.compile makes, one for each shape that comes along.
        recomputed: keep the input only for the backward pass, and compute the rest again there.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: float = 4.0,
        key_bias: bool = True,
        norm: Literal["pre", "post"] = "pre",
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, heads, key_bias)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.post_norm = norm == "post"
        self.compiled = False
        self.recomputed = False

    def forward(self, tokens: Tensor, scales: Tensor | None = None, last: int | None = None) -> Tensor:
        """Map tokens ``[B, K, D]`` to ``[B, K, D]``.

        Args:
            tokens: ``[B, K, D]``.
            scales: ``[2, B, 1, 1]``, multiply the two branches.
            last: compute the last tokens only, ``[B, last, D]``, for a last block whose other outputs are not used.
        """
        return self.parts(tokens, scales, last)[0]

    def parts(self, tokens: Tensor, scales: Tensor | None = None, last: int | None = None) -> tuple[Tensor, Tensor]:
        """Return the output ``[B, K, D]`` and, apart, what the MLP added to get there ``[B, K, D]``."""
        compute = _compiled() if self.compiled else Block._parts
        if self.recomputed and torch.is_grad_enabled():
            # The random state need not be saved: the scales are drawn outside, so both computations are equal.
            return checkpoint(compute, self, tokens, scales, last, use_reentrant=False, preserve_rng_state=False)
        return compute(self, tokens, scales, last)

    def _parts(self, tokens: Tensor, scales: Tensor | None, last: int | None) -> tuple[Tensor, Tensor]:
        """Compute :meth:`parts`."""
        # Pre-norm (x + f(norm(x))): the residual path has no norm, so that deep models train without care.
        mixed = self.attn(tokens if self.post_norm else self.norm1(tokens), last)
        if last is not None:
            tokens = tokens[:, tokens.shape[1] - last :]
        tokens = tokens + (mixed if scales is None else mixed * scales[0].to(mixed.dtype))
        if self.post_norm:
            # The second LayerNorm comes after the sum: `added` is the MLP's output itself, which EAT predicts.
            tokens = self.norm1(tokens)
            added = self.mlp(tokens)
            return self.norm2(tokens + (added if scales is None else added * scales[1].to(added.dtype))), added
        added = self.mlp(self.norm2(tokens))
        return tokens + (added if scales is None else added * scales[1].to(added.dtype)), added


@functools.cache
def _compiled() -> Callable[[Block, Tensor, Tensor | None, int | None], tuple[Tensor, Tensor]]:
    """Compile a block's computation, once for all blocks: weights are arguments, so equal shapes share a kernel.

    The function is compiled and not the module, whose state dict would get other names.
    """
    return torch.compile(Block._parts, dynamic=False)

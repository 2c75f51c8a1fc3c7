"""The one function through which all attention goes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_wb.layers.autocast import full_precision

__all__ = ["AttentionName", "attention", "attention_name"]

AttentionName = Literal["xformers", "sdpa"]


def attention_name(device: torch.device) -> AttentionName:
    """Say which attention serves a device; the run's environment record keeps the answer."""
    del device  # xformers takes its place here on CUDA once it is measured there; SDPA is right everywhere
    return "sdpa"


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention over all tokens.

    Args:
        query: ``[B, heads, Kq, d]``.
        key: ``[B, heads, K, d]``.
        value: ``[B, heads, K, d]``.

    Returns:
        ``[B, heads, Kq, d]``.
    """
    if query.device.type == "cpu" and query.dtype != torch.float32:
        # The CPU kernel's half-precision backward pass takes two to eight times as long as the float32 one.
        with full_precision(query.device):
            mixed = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
        return mixed.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value)

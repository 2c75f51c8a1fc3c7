"""Attention of all models, in one place: xformers on CUDA in half precision, torch's own elsewhere."""

from __future__ import annotations

import functools
import importlib.util
import logging
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_wb.errors import UsageError
from ssl_wb.layers.autocast import full_precision

__all__ = [
    "AttentionChoice",
    "AttentionName",
    "attention",
    "attention_name",
    "packed_attention",
    "split_attention",
    "xformers_info",
]

AttentionName = Literal["xformers", "sdpa"]
AttentionChoice = Literal["auto", "xformers", "sdpa"]

#: Number formats that xformers' fast operators compute in.
_HALF = (torch.float16, torch.bfloat16)
#: Widest head that xformers' flash operator takes, in steps of 8. All named sizes of the ViT have heads of 64.
_WIDEST_HEAD = 256

#: ``xformers.ops`` once it is imported. torch.compile can read this variable; it cannot trace the import.
_OPS: ModuleType | None = None


@functools.cache
def _xformers() -> ModuleType | None:
    """Import ``xformers.ops``, which takes seconds, or return None. Its warnings on import concern other features."""
    global _OPS
    logger = logging.getLogger("xformers")
    logger.addFilter(_is_error)
    try:
        import xformers.ops
    except (ImportError, OSError, RuntimeError):  # not there, or built for another torch
        return None
    finally:
        logger.removeFilter(_is_error)
    _OPS = xformers.ops
    return _OPS


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def xformers_info() -> str:
    """Return what ``python -m xformers.info`` prints, in one line: version, available attention operators, device."""
    if importlib.util.find_spec("xformers") is None:
        return "xformers is not installed"
    ops = _xformers()
    if ops is None:
        return "xformers is installed and cannot be imported"
    from xformers import __version__ as version

    available = [op.NAME for op in ops.fmha.ALL_FW_OPS if op.is_available()]
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "not available"
    return f"xFormers {version}; attention operators: {', '.join(available) or 'none'}; pytorch.cuda: {cuda}"


def _why_not(device: torch.device, dtype: torch.dtype, head_dim: int) -> str:
    """Return why xformers cannot be used, or nothing where it can."""
    if device.type != "cuda":
        return f"it computes on CUDA devices only, not on {device.type}"
    if dtype not in _HALF:
        return f"it is used in fp16 and bf16, not in {str(dtype).removeprefix('torch.')}"
    if head_dim % 8 or head_dim > _WIDEST_HEAD:
        return f"a head's width must be a multiple of 8 up to {_WIDEST_HEAD}, not {head_dim}"
    return "" if _xformers() is not None else "it cannot be imported"


def attention_name(
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    choice: AttentionChoice = "auto",
    head_dim: int = 64,
) -> AttentionName:
    """Choose the attention of a device and number format.

    Args:
        device: what computes.
        dtype: number format of queries, keys and values.
        choice: what the recipe asks for.
        head_dim: width of one head.

    Raises:
        UsageError: xformers is asked for and cannot serve.
    """
    if choice == "sdpa":
        return "sdpa"
    reason = _why_not(device, dtype, head_dim)
    if reason and choice == "xformers":
        raise UsageError(
            f"backbone.attention = 'xformers' cannot serve here: {reason} (python -m xformers.info: {xformers_info()})",
            hint="set backbone.attention = 'auto', which takes what serves; xformers wants CUDA and train.precision "
            "'bf16' or 'fp16'",
        )
    return "sdpa" if reason else "xformers"


def attention(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention over all tokens, torch's own.

    Args:
        query: ``[B, heads, Kq, d]``.
        key: ``[B, heads, K, d]``.
        value: ``[B, heads, K, d]``.
        bias: ``[B, heads, Kq, K]``, or what broadcasts to it, added to the scaled products; None for none.

    Returns:
        ``[B, heads, Kq, d]``.
    """
    if query.device.type == "cpu" and query.dtype != torch.float32:
        # On a CPU the half-precision backward pass takes two to eight times as long as the float32 one.
        with full_precision(query.device):
            mask = None if bias is None else bias.float()
            mixed = F.scaled_dot_product_attention(query.float(), key.float(), value.float(), mask)
        return mixed.to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, None if bias is None else bias.to(query.dtype))


def packed_attention(qkv: Tensor, kernel: AttentionName = "sdpa") -> Tensor:
    """Scaled dot-product attention of a sequence with itself.

    Args:
        qkv: ``[B, K, 3, heads, d]``: queries, keys and values of all tokens.
        kernel: what computes it, as :func:`attention_name` chose. float32 tensors (outside of autocast) go to torch's
            own attention all the same.

    Returns:
        ``[B, K, heads * d]``.
    """
    query, key, value = qkv.unbind(2)
    return split_attention(query, key, value, kernel)


def split_attention(query: Tensor, key: Tensor, value: Tensor, kernel: AttentionName = "sdpa") -> Tensor:
    """Scaled dot-product attention of some tokens with others.

    Args:
        query: ``[B, Kq, heads, d]``.
        key: ``[B, K, heads, d]``.
        value: ``[B, K, heads, d]``.
        kernel: as in :func:`packed_attention`.

    Returns:
        ``[B, Kq, heads * d]``.
    """
    if kernel == "xformers" and query.is_cuda and query.dtype in _HALF:
        ops = _OPS or _xformers()
        assert ops is not None  # attention_name has imported it
        # xformers takes [B, K, heads, d], the layout in which the projection writes: no transposed copies.
        return ops.memory_efficient_attention(query, key, value).flatten(2)
    return attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)).transpose(1, 2).flatten(2)

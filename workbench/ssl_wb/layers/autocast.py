"""Where half precision would cost accuracy."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["full_precision"]


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Turn autocast off for a few operations on a device; on the meta device there is none to turn off."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)

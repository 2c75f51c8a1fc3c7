"""Where half precision would cost accuracy."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["full_precision"]


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Turn autocast off for a few operations on a device.

    Autocast runs matrix products in half precision even when their inputs are float32, so ``.float()`` is not enough.
    """
    # The meta device, on which recipes are traced without computing, has no autocast.
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)

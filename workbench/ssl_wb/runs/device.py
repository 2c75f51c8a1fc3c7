"""The device of a run, and the number format of its forward pass."""

from __future__ import annotations

from typing import Literal

import torch

from ssl_wb.errors import UsageError

__all__ = ["autocast_dtype", "best_device", "bf16_is_native", "mixed_precision", "named_device"]


def best_device(*, cpu: bool = False) -> torch.device:
    """Return the GPU where there is one and ``cpu`` is not set."""
    return torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")


def named_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device of a name; the best one without a name.

    Raises:
        UsageError: there is no such device here.
    """
    if name is None:
        return best_device()
    here = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    try:
        device = torch.device(name)
        found = str(device) in here or any(one.startswith(f"{device}:") for one in here)
    except RuntimeError:  # no name of a device
        found = False
    if not found:
        raise UsageError(f"device {str(name)!r}: no such device here", hint=f"there are: {', '.join(here)}")
    return device


def bf16_is_native(device: torch.device) -> bool:
    """Whether a device multiplies bf16 matrices in hardware; elsewhere bf16 is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return False


def mixed_precision(precision: str, device: torch.device) -> Literal["no", "bf16", "fp16"]:
    """Translate ``train.precision`` to Accelerate's word, resolving 'auto'."""
    if precision == "auto":
        return "bf16" if bf16_is_native(device) else "no"
    return {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[precision]  # type: ignore[return-value]


def autocast_dtype(precision: str) -> torch.dtype:
    """Return the number format of matrix products under Accelerate's word ``no``, ``bf16`` or ``fp16``."""
    return {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

"""Checks of the waveforms that encoders are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.errors import UsageError

__all__ = ["checked_waveform"]


#: Full scale of integer samples. Those of 24 bits come as int32 shifted to its full scale from soundfile.
FULL_SCALE = {torch.int16: 2.0**15, torch.int32: 2.0**31}


def checked_waveform(
    waveform: Tensor | NDArray[Any], lengths: Tensor | Sequence[int] | None, device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """Bring waveforms ``[S]`` or ``[B, S]`` and optional lengths to float32 ``[B, S]`` and ``[B]`` on a device.

    Args:
        waveform: a tensor or numpy array of full scale 1, or of int16 or int32 numbers, which are divided by theirs.
        lengths: samples of each clip; all of S when None.
        device: where they are wanted.

    Raises:
        UsageError: the waveform is of another type or shape, is empty, or is not finite; a length does not fit it.
    """
    waveform = _as_tensor(waveform)
    if waveform.dim() == 1:
        waveform = waveform[None]
    if waveform.dim() != 2 or waveform.numel() == 0:
        raise UsageError(
            f"a waveform of shape {tuple(waveform.shape)} cannot be embedded",
            hint="give [samples] or [clips, samples], one channel, at least one sample",
        )
    waveform = waveform.to(device, torch.float32)
    if not bool(waveform.isfinite().all()):
        raise UsageError("the waveform holds values that are not finite", hint="repair or drop the recording")
    if lengths is not None and not isinstance(lengths, Tensor):
        lengths = torch.as_tensor(lengths)
    if lengths is None:
        lengths = torch.full((len(waveform),), waveform.shape[1])
    if lengths.shape != (len(waveform),) or int(lengths.min()) < 1 or int(lengths.max()) > waveform.shape[1]:
        raise UsageError(
            f"lengths {lengths.tolist()[:8]} do not fit waveforms of shape {tuple(waveform.shape)}",
            hint="give one length per clip, between 1 and the samples of the waveform",
        )
    return waveform, lengths.to(waveform.device)


def _as_tensor(waveform: Any) -> Tensor:
    """Return a waveform as a tensor of full scale 1, without gradient."""
    kind = f"{type(waveform).__name__} of {waveform.dtype}" if hasattr(waveform, "dtype") else type(waveform).__name__
    if isinstance(waveform, np.ndarray):
        try:
            native = waveform.astype(
                waveform.dtype.newbyteorder("=")
            )  # a copy: torch takes no reversed or foreign order
            waveform = torch.from_numpy(native)
        except TypeError:
            waveform = None  # of a type that torch does not know
    if not isinstance(waveform, Tensor) or not (waveform.is_floating_point() or waveform.dtype in FULL_SCALE):
        raise UsageError(
            f"a waveform that is a {kind} cannot be embedded",
            hint="give a tensor or numpy array of floating point at full scale 1, of int16 or of int32",
        )
    if waveform.dtype in FULL_SCALE:
        waveform = waveform.double() / FULL_SCALE[waveform.dtype]
    return waveform.detach()

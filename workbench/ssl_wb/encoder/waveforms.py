"""Checks of the waveforms that encoders are given."""

from __future__ import annotations

import torch
from torch import Tensor

from ssl_wb.errors import UsageError

__all__ = ["checked_waveform"]


def checked_waveform(
    waveform: Tensor, lengths: Tensor | None, device: str | torch.device = "cpu"
) -> tuple[Tensor, Tensor]:
    """Bring waveforms ``[S]`` or ``[B, S]`` and optional lengths to float32 ``[B, S]`` and ``[B]`` on a device.

    Raises:
        UsageError: the waveform has another shape, is empty, or is not finite; a length does not fit it.
    """
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
    if lengths is None:
        lengths = torch.full((len(waveform),), waveform.shape[1])
    if lengths.shape != (len(waveform),) or int(lengths.min()) < 1 or int(lengths.max()) > waveform.shape[1]:
        raise UsageError(
            f"lengths {lengths.tolist()[:8]} do not fit waveforms of shape {tuple(waveform.shape)}",
            hint="give one length per clip, between 1 and the samples of the waveform",
        )
    return waveform, lengths.to(waveform.device)

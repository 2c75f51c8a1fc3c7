"""Oddities of a recording that decode without an error and spoil what is learnt from it."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ssl_wb.audio.decode import AudioSource, read_channels

__all__ = ["Oddity", "find_oddity"]

#: ``silent``: every sample is 0. ``cancelled``: the channels cancel each other when they are mixed to mono.
#: ``too loud``: samples are far beyond full scale, as 16-bit integers that were written as floats.
Oddity = Literal["silent", "cancelled", "too loud"]

#: Power of the mono mix, as a share of the channels' mean power, below which channels cancel: -40 dB. Two channels
#: without any correlation keep a half.
CANCELLED = 1e-4
#: Full scale is 1. Floating-point mixes go beyond it by a factor of a few, integers of 16 bits by 32,768.
TOO_LOUD = 100.0


def find_oddity(path: AudioSource, start: float = 0.0, seconds: float = 10.0) -> Oddity | None:
    """Look for an oddity in a stretch of a recording; None where there is none.

    Args:
        path: an audio file, or audio stored otherwise.
        start: seconds from the beginning of the file.
        seconds: length of the stretch.

    Raises:
        AudioError: as :func:`ssl_wb.audio.decode.read_samples`.
    """
    channels = read_channels(path, start, seconds).astype(np.float64)  # [S, C]
    power = float(np.square(channels).mean())
    if power == 0.0:
        return "silent"
    if float(np.abs(channels).max()) > TOO_LOUD:
        return "too loud"
    if float(np.square(channels.mean(axis=1)).mean()) < CANCELLED * power:
        return "cancelled"
    return None

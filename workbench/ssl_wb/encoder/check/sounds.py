"""The sounds an encoder is checked with: functions of time, so that they exist at every sample rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["LEVEL", "burst", "voice", "voices"]

#: Root mean square of a test clip: -20 dB of full scale.
LEVEL = 0.1
#: Partials of a voice, and the highest frequency of any of them in Hz: below half of the lowest rate in use, 8 kHz.
PARTIALS, HIGHEST = 12, 3200.0


def voice(seconds: float, sample_rate: int, seed: int) -> Tensor:
    """Return one clip ``[S]``: partials of a gliding pitch, each with its own rhythm, as a voice or an animal has.

    Args:
        seconds: length.
        sample_rate: samples per second, at least 8,000; the same sound at any rate.
        seed: which sound.
    """
    draw = torch.Generator().manual_seed(1000 + seed)
    unit = torch.rand(4 * PARTIALS + 3, generator=draw, dtype=torch.float64).tolist()
    time = torch.arange(max(1, round(seconds * sample_rate)), dtype=torch.float64) / sample_rate  # [S]
    pitch, glide, rate = 90 + 200 * unit[0], 0.1 + 0.3 * unit[1], 0.3 + 0.7 * unit[2]  # Hz, share, Hz
    # Phase of a pitch p (1 + g sin(2 pi r t)): its integral over time.
    phase = 2 * math.pi * pitch * (time - glide * torch.cos(2 * math.pi * rate * time) / (2 * math.pi * rate))  # [S]
    sound = torch.zeros_like(time)
    for number in range(PARTIALS):
        level, tempo, start, shift = unit[3 + 4 * number : 7 + 4 * number]
        if (number + 1) * pitch * (1 + glide) > HIGHEST:
            break
        rhythm = torch.sin(
            math.pi * (1 + 4 * tempo) * time + math.pi * start
        ).square()  # [S], 1 to 5 syllables a second
        sound += (0.2 + level) / (number + 1) * rhythm * torch.sin((number + 1) * phase + 2 * math.pi * shift)
    return (LEVEL * sound / sound.square().mean().sqrt().clamp_min(1e-9)).float()


def voices(seconds: float, sample_rate: int, count: int = 4) -> Tensor:
    """Return ``count`` different clips ``[count, S]`` with a floor of noise 40 dB below them."""
    clips = torch.stack([voice(seconds, sample_rate, seed) for seed in range(count)])
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    return clips + 0.01 * LEVEL * noise


def burst(sample_rate: int, seconds: float = 0.03) -> Tensor:
    """Return a short burst of noise ``[s]``, 20 dB above a test clip, faded in and out."""
    samples = max(8, round(seconds * sample_rate))
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(1))
    return 10 * LEVEL * noise * torch.hann_window(samples, periodic=False)

"""Baselines: plain log-mel statistics as encoders, which a trained encoder should beat.

The spectrogram is MATPAC's with 64 bands from 30 Hz to 8 kHz, not normalised; probes standardise. The lowest bands help
with speakers and hurt with digits of unknown speakers: a lower limit of 0, 20 or 50 Hz changes single tasks by up to 2
points.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ssl_wb.plugin.evaluator import Encoder
from ssl_wb.plugin.registry import load_registry

__all__ = ["LogMelSegments", "LogMelStatistics", "baselines"]

BANDS = 64
F_MIN = 30.0


class _LogMel:
    """A log-mel spectrogram as an encoder."""

    def __init__(self) -> None:
        log_mel: Any = load_registry().get("front-end", "log-mel")
        options = log_mel.Options(n_mels=BANDS, f_min=F_MIN)
        self.front_end = log_mel(options)
        self.sample_rate = self.front_end.sample_rate
        #: Identifies the encoder in the key of cached embeddings.
        self.settings = {"name": type(self).__name__, "front_end": options.model_dump()}

    @torch.no_grad()
    def _frames(self, waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Spectrogram ``[B, T, F]`` and the frames of each clip ``[B]``, of waveforms ``[B, S]``."""
        log_mel, frames = self.front_end.log_mel(waveform, lengths)  # [B, F, T]
        return log_mel.transpose(1, 2), frames

    def embed_frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the spectrogram of waveforms ``[B, S]`` as ``[B, T, 64]``, 0 past a clip's end."""
        log_mel, frames = self._frames(waveform, lengths)
        past = torch.arange(log_mel.shape[1]) >= frames[:, None]  # [B, T]
        return log_mel.masked_fill(past[:, :, None], 0.0)


class LogMelStatistics(_LogMel):
    """Mean and standard deviation of each band over time: which frequencies occur, not when."""

    def embed_clip(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` as ``[B, 128]``: 64 means, then 64 standard deviations."""
        log_mel, frames = self._frames(waveform, lengths)
        return torch.stack(
            [
                torch.cat([clip[:count].mean(dim=0), clip[:count].std(dim=0, correction=0)])
                for clip, count in zip(log_mel, frames.tolist(), strict=True)
            ]
        )


class LogMelSegments(_LogMel):
    """Means of each band in 8 equal segments of the clip."""

    segments = 8

    def embed_clip(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` as ``[B, 512]``: 64 means of the first segment, and so on.

        A clip of fewer than 8 frames has segments of one frame, some of which repeat.
        """
        log_mel, frames = self._frames(waveform, lengths)
        return torch.stack([self._means(clip[:count]) for clip, count in zip(log_mel, frames.tolist(), strict=True)])

    def _means(self, clip: Tensor) -> Tensor:
        """Return the means of the segments of a clip ``[T, F]``, as ``[8 * F]``."""
        edges = [round(index * len(clip) / self.segments) for index in range(self.segments + 1)]
        parts = []
        for first, stop in pairwise(edges):
            first = min(first, len(clip) - 1)
            parts.append(clip[first : max(stop, first + 1)].mean(dim=0))
        return torch.cat(parts)


def baselines() -> dict[str, Encoder]:
    """Return the plain log-mel baselines by row name."""
    return {"log-mel mean+std": LogMelStatistics(), "log-mel 8 segments": LogMelSegments()}

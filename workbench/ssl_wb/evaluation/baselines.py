"""Baselines: plain log-mel statistics as encoders, which a trained encoder should beat.

The spectrogram is MATPAC's with 64 bands from 30 Hz to 8 kHz, not normalised; probes standardise. The lowest bands help
with speakers and hurt with digits of unknown speakers: a lower limit of 0, 20 or 50 Hz changes single tasks by up to 2
points.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_wb.evaluation.pooling import MEAN, pool_clips
from ssl_wb.plugin.evaluator import Encoder
from ssl_wb.plugin.registry import load_registry

__all__ = ["LogMelFrames", "LogMelSegments", "LogMelStatistics", "baselines"]

BANDS = 64
F_MIN = 30.0


class LogMelFrames:
    """A log-mel spectrogram as an encoder.

    Attributes:
        pooling: how ``embed_clip`` pools.
    """

    pooling = MEAN

    def __init__(self) -> None:
        log_mel: Any = load_registry().get("front-end", "log-mel")
        options = log_mel.Options(n_mels=BANDS, f_min=F_MIN)
        self.front_end = log_mel(options)
        self.sample_rate = self.front_end.sample_rate
        #: Identifies the encoder in the key of cached embeddings.
        self.settings = {"name": type(self).__name__, "front_end": options.model_dump()}

    def embed_clip(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Pool the spectrogram of waveforms ``[B, S]`` to ``[B, D]`` by ``pooling``."""
        log_mel, frames = self._frames(waveform, lengths)
        return pool_clips(log_mel, frames.tolist(), [self.pooling])

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


class LogMelStatistics(LogMelFrames):
    """Mean and standard deviation of each band over time, ``[B, 128]``: which frequencies occur, not when."""

    pooling = "mean+std"


class LogMelSegments(LogMelFrames):
    """Means of each band in 8 equal segments of the clip, ``[B, 512]``."""

    pooling = "segments:8"


def baselines(pool: str = MEAN) -> dict[str, Encoder]:
    """Return the plain log-mel baselines by row name.

    Args:
        pool: how the encoders beside them are pooled. Beside the papers' mean over time, which loses more of a
            spectrogram than of learned frames, stand the two statistics that do best; otherwise the spectrogram is
            pooled as they are.
    """
    if pool == MEAN:
        return {"log-mel mean+std": LogMelStatistics(), "log-mel 8 segments": LogMelSegments()}
    return {"log-mel": LogMelFrames()}

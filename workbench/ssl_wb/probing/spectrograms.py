"""Spectrograms of a task's clips, for evaluators that train a copy of the encoder."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.evaluator import ProbeTask

__all__ = ["TaskSpectrograms", "TrainableEncoder"]


class TrainableEncoder(Protocol):
    """What an encoder offers beyond embeddings, so that a copy of it can be trained.

    Attributes:
        front_end: maps waveforms ``[B, S]`` to normalised spectrograms ``[B, F, T]``, with ``mean``, ``hop_seconds``
            and ``pad_value``.
        backbone: on patches.
        chunk_columns: columns of patches that the frozen encoder reads at a time, as many as in pre-training.
        sample_rate: of waveforms, in Hz.
    """

    front_end: Any
    backbone: Backbone
    chunk_columns: int
    sample_rate: int


class TaskSpectrograms:
    """Normalised spectrograms of a task's clips, kept in memory as far as they fit.

    Args:
        task: a task whose ``read`` is not None.
        encoder: gives the front end and the size of patches and chunks.
        max_seconds: longer clips are cut.
        memory: spectrograms kept, in GiB; the others are computed again each time.

    Attributes:
        frames: frames to which every clip is padded or cut: those of the longest clip, ``max_seconds`` at most, rounded
            up to whole patches and whole chunks of the encoder.
    """

    def __init__(self, task: ProbeTask, encoder: TrainableEncoder, max_seconds: float, memory: float) -> None:
        assert task.read is not None
        self._read, self._encoder = task.read, encoder
        self._free = memory * 2**30  # bytes
        self._kept: dict[int, Tensor] = {}
        self._width = encoder.backbone.patch[1]
        limit = max(1, int(max_seconds / float(encoder.front_end.hop_seconds)))
        longest = min(limit, max(self._spectrogram(clip).shape[1] for clip in range(len(task.labels))))
        columns = -(-longest // self._width)
        if columns > encoder.chunk_columns:
            columns = -(-columns // encoder.chunk_columns) * encoder.chunk_columns
        self.frames = columns * self._width

    def _spectrogram(self, clip: int) -> Tensor:
        """Return the spectrogram of a clip, ``[F, T]``."""
        if clip not in self._kept:
            waveform = torch.from_numpy(np.array(self._read(clip), dtype=np.float32))  # [S]
            device = self._encoder.front_end.mean.device
            with torch.no_grad():
                spectrogram: Tensor = self._encoder.front_end(waveform[None].to(device))[0][0].cpu()
            size = spectrogram.numel() * spectrogram.element_size()
            if size > self._free:
                return spectrogram
            self._free -= size
            self._kept[clip] = spectrogram
        return self._kept[clip]

    def mixed(
        self, clips: NDArray[np.int64], others: NDArray[np.int64], weights: NDArray[np.float64]
    ) -> tuple[Tensor, Tensor]:
        """Gather clips whose waveforms are mixed with others before the front end; the shorter one ends in silence.

        Every waveform has its mean removed before and after, as in AudioMosaic (AST). Nothing is kept in memory.

        Args:
            clips: int64 indices ``[B]``.
            others: int64 indices ``[B]``, what each is mixed with.
            weights: float ``[B]``, of the clip; the other one has the rest.

        Returns:
            As :meth:`batch`, cut at a random place.
        """
        spectrograms = []
        device = self._encoder.front_end.mean.device
        for clip, other, weight in zip(clips.tolist(), others.tolist(), weights.tolist(), strict=True):
            waves = [np.array(self._read(one), dtype=np.float32) for one in (clip, other)]  # [S], [S']
            mixed = np.zeros(max(map(len, waves)), dtype=np.float32)
            for wave, share in zip(waves, (weight, 1.0 - weight), strict=True):
                mixed[: len(wave)] += share * (wave - wave.mean())
            sound = torch.from_numpy(mixed - mixed.mean())[None].to(device)
            with torch.no_grad():
                spectrograms.append(self._encoder.front_end(sound)[0][0].cpu())
        return self._gathered(spectrograms, random=True)

    def batch(self, clips: NDArray[np.int64], *, random: bool) -> tuple[Tensor, Tensor]:
        """Gather clips, each padded at its end, or cut.

        Args:
            clips: int64 indices ``[B]``.
            random: cut at a random place (torch's default generator); at the start otherwise.

        Returns:
            Spectrograms ``[B, F, frames]``, and how many columns of patches of each hold sound, int64 ``[B]``.
        """
        return self._gathered([self._spectrogram(int(clip)) for clip in clips], random=random)

    def _gathered(self, spectrograms: list[Tensor], *, random: bool) -> tuple[Tensor, Tensor]:
        """Pad or cut spectrograms ``[F, T]`` to one batch ``[B, F, frames]``, with the columns of sound of each."""
        pad = float(self._encoder.front_end.pad_value)
        batch = torch.full((len(spectrograms), spectrograms[0].shape[0], self.frames), pad)
        columns = torch.empty(len(spectrograms), dtype=torch.int64)
        for row, spectrogram in enumerate(spectrograms):
            spare = spectrogram.shape[1] - self.frames
            start = int(torch.randint(spare + 1, ())) if random and spare > 0 else 0
            piece = spectrogram[:, start : start + self.frames]
            batch[row, :, : piece.shape[1]] = piece
            columns[row] = -(-piece.shape[1] // self._width)
        return batch, columns

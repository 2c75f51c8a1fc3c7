"""Clips for evaluators that ask the encoder themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.api import ProbeTask

__all__ = ["padded", "waveforms"]

#: Clips in a batch.
BATCH = 32


def waveforms(task: ProbeTask, rows: Sequence[int] | NDArray[np.int64]) -> Iterator[Tensor]:
    """Decode clips of a task that has audio at hand, float32 ``[S]`` each."""
    assert task.read is not None
    for row in rows:
        yield torch.from_numpy(np.array(task.read(int(row)), dtype=np.float32))


def padded(clips: Iterator[Tensor], size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield clips ``[S]`` in batches: waveforms ``[B, S]``, 0 past a clip's end, and lengths ``[B]``."""
    batch: list[Tensor] = []
    for clip in clips:
        batch.append(clip)
        if len(batch) == size:
            yield _pad(batch)
            batch = []
    if batch:
        yield _pad(batch)


def _pad(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(clip) for clip in batch])  # [B]
    return torch.nn.utils.rnn.pad_sequence(batch, batch_first=True), lengths

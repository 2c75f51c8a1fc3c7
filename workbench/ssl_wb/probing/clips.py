"""Waveforms for evaluators that call the encoder themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.errors import UsageError
from ssl_wb.plugin.caption_space import CaptionMatchingEncoder
from ssl_wb.plugin.evaluator import ProbeTask

__all__ = ["captioned", "match_captions", "pad_batches", "read_waveforms"]

#: Clips in a batch.
BATCH = 32


def read_waveforms(task: ProbeTask, clips: Sequence[int] | NDArray[np.int64]) -> Iterator[Tensor]:
    """Decode clips one by one.

    Args:
        task: a task whose ``read`` is not None.
        clips: indices of clips.

    Yields:
        float32 ``[S]`` at the encoder's sample rate.

    Raises:
        AudioError: a clip cannot be decoded.
    """
    assert task.read is not None
    for clip in clips:
        yield torch.from_numpy(np.array(task.read(int(clip)), dtype=np.float32))


def pad_batches(waveforms: Iterable[Tensor], size: int = BATCH) -> Iterator[tuple[Tensor, Tensor]]:
    """Gather waveforms in batches.

    Args:
        waveforms: float ``[S]`` each, of any length.
        size: clips in a batch, B; the last batch may hold fewer.

    Yields:
        Waveforms ``[B, S]``, 0 past a clip's end, and their lengths in samples, int64 ``[B]``.
    """
    batch: list[Tensor] = []
    for waveform in waveforms:
        batch.append(waveform)
        if len(batch) == size:
            yield _pad(batch)
            batch = []
    if batch:
        yield _pad(batch)


def _pad(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(waveform) for waveform in batch])  # [B]
    return torch.nn.utils.rnn.pad_sequence(batch, batch_first=True), lengths


def captioned(task: ProbeTask, evaluator: str) -> CaptionMatchingEncoder:
    """Return the encoder of a task, which has to compare clips with sentences.

    Args:
        task: the task.
        evaluator: name of the evaluator that asks.

    Raises:
        UsageError: it was not trained beside captions.
    """
    if not isinstance(task.encoder, CaptionMatchingEncoder):
        raise UsageError(
            f"{evaluator}: this encoder was not trained beside captions",
            hint=f"take a run with an objective clap, such as m2d-clap-small, or leave {evaluator} out",
        )
    return task.encoder


def match_captions(
    task: ProbeTask, encoder: CaptionMatchingEncoder, clips: Sequence[int] | NDArray[np.int64], captions: Sequence[str]
) -> Tensor:
    """Compare clips with sentences, batch by batch.

    Args:
        task: a task whose ``read`` is not None.
        encoder: from :func:`captioned`.
        clips: indices of n clips.
        captions: m sentences.

    Returns:
        Cosines, float64 ``[n, m]`` on the CPU.
    """
    batches = pad_batches(read_waveforms(task, clips))
    return torch.cat(
        [encoder.match_captions(waveform, captions, lengths).cpu() for waveform, lengths in batches]
    ).double()

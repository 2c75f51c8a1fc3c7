"""Embedding the clips of a task: decoded in threads, in batches of similar length."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.audio.decode import info, read
from ssl_wb.contracts.evaluator import Encoder
from ssl_wb.data.clips import Clip
from ssl_wb.errors import DataError
from ssl_wb.evaluate.tasks import LoadedTask

__all__ = ["Progress", "embed_task"]

#: Called with the clips done and the clips there are.
Progress = Callable[[int, int], None]

#: Batches decoded ahead of the encoder.
AHEAD = 2
#: Threads that decode; libsndfile works outside Python's lock.
THREADS = 2


@torch.no_grad()
def embed_task(
    encoder: Encoder,
    task: LoadedTask,
    *,
    batch_seconds: float = 60.0,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """Embed every clip of a task, whole.

    Args:
        encoder: what embeds; its result must not depend on what a clip is padded or batched with.
        task: the clips.
        batch_seconds: audio in a batch, padding included; a longer clip is a batch of its own.
        progress: told after every batch.

    Returns:
        float32 ``[clips, D]``, in the task's order.

    Raises:
        AudioError: a clip cannot be read.
        DataError: the encoder gives a clip an embedding that is not finite.
    """
    clips = task.clips.clips
    result: NDArray[np.float32] | None = None
    done = 0
    for rows, waveforms in _decoded(clips, encoder.sample_rate, batch_seconds):
        lengths = torch.tensor([len(waveform) for waveform in waveforms])  # [B]
        padded = torch.zeros(len(waveforms), int(lengths.max()))  # [B, S]
        for row, waveform in enumerate(waveforms):
            padded[row, : len(waveform)] = torch.from_numpy(waveform)
        embedded = encoder.embed_clip(padded, lengths).float().cpu().numpy()  # [B, D]
        if not np.isfinite(embedded).all():
            bad = rows[int(np.flatnonzero(~np.isfinite(embedded).all(axis=1))[0])]
            raise DataError(
                f"{clips[bad].path}: the encoder gives an embedding that is not finite",
                hint="If the recording is sound, the encoder's weights are not: did its training diverge?",
            )
        if result is None:
            result = np.zeros((len(clips), embedded.shape[1]), dtype=np.float32)
        result[rows] = embedded
        done += len(rows)
        if progress is not None:
            progress(done, len(clips))
    if result is None:
        raise DataError(f"task {task.name!r} has no clips", hint="Check its manifest.")
    return result


def _decoded(
    clips: Sequence[Clip], sample_rate: int, batch_seconds: float
) -> Iterator[tuple[list[int], list[NDArray[np.float32]]]]:
    """Yield indices and waveforms of batches, decoding a few batches ahead."""
    with ThreadPoolExecutor(THREADS) as pool:
        seconds = list(pool.map(_seconds, clips))
        waiting: deque[tuple[list[int], list[Future[NDArray[np.float32]]]]] = deque()
        try:
            for rows in _batches(seconds, batch_seconds):
                waiting.append((rows, [pool.submit(_read, clips[row], sample_rate) for row in rows]))
                if len(waiting) > AHEAD:
                    ready, futures = waiting.popleft()
                    yield ready, [future.result() for future in futures]
            while waiting:
                ready, futures = waiting.popleft()
                yield ready, [future.result() for future in futures]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _batches(seconds: Sequence[float], batch_seconds: float) -> Iterator[list[int]]:
    """Group clips of similar length so that a batch, padded to its longest, is no longer than asked."""
    batch: list[int] = []
    for row in sorted(range(len(seconds)), key=lambda index: (seconds[index], index)):
        if batch and seconds[row] * (len(batch) + 1) > batch_seconds:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _seconds(clip: Clip) -> float:
    """Length of a clip, from the manifest or the file's header."""
    return clip.duration if clip.duration is not None else info(clip.path).seconds - clip.start


def _read(clip: Clip, sample_rate: int) -> NDArray[np.float32]:
    return read(clip.path, sample_rate, start=clip.start, duration=clip.duration)

"""Embeddings of a task's clips: decoded in threads, encoded in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssl_wb.audio.ahead import started_ahead
from ssl_wb.audio.clip import Clip
from ssl_wb.audio.decode import info, read
from ssl_wb.errors import DataError
from ssl_wb.evaluation.frame_store import FrameStore, FrameWriter
from ssl_wb.evaluation.pooling import pool_clips
from ssl_wb.plugin.evaluator import Encoder, Level
from ssl_wb.tasks.task import LoadedTask

__all__ = ["Decoded", "Embedded", "Progress", "decode_task", "embed_task", "frame_counts", "read_clip", "total_seconds"]

#: Called with the clips done and the clips there are.
Progress = Callable[[int, int], None]
#: Embeddings of all clips of a task.
Embedded = NDArray[np.float32] | FrameStore
#: Clips of one batch: their indices, and their waveforms, float32 ``[S]`` each.
Decoded = tuple[list[int], list[NDArray[np.float32]]]

#: Audio in a batch, padding included, in seconds.
BATCH_SECONDS = 60.0
#: Batches decoded ahead of the encoder.
AHEAD = 2
#: Batches encoded in parallel on the CPU, at most.
WORKERS = 4
#: Threads that decode; libsndfile runs without the interpreter lock.
THREADS = 2


@torch.no_grad()
def embed_task(
    encoder: Encoder,
    task: LoadedTask,
    *,
    level: Level = "clip",
    pools: Sequence[str] = (),
    batch_seconds: float = BATCH_SECONDS,
    progress: Progress | None = None,
    decoded: Sequence[Decoded] | None = None,
) -> Embedded:
    """Embed every clip of a task, whole.

    Args:
        encoder: the encoder; its embedding of a clip must not depend on padding or on other clips of a batch.
        task: the clips.
        level: ``clip``, one embedding each; ``layers``, one per layer, each the mean over the clip's frames;
            ``frames``, one per frame; ``audio``, none.
        pools: for level ``clip``: pool each clip's frames by these, one after the other (:func:`pool_clips`); the
            encoder's own embedding of a clip where none are given.
        batch_seconds: audio in a batch, padding included; a longer clip is a batch of its own.
        progress: called after every batch.
        decoded: the clips from :func:`decode_task`; read from their files when None.

    Returns:
        float32 ``[clips, D]``, ``[clips, L, D]``, ``[clips, T, D]`` (0 past a clip's end, as a
        :class:`~ssl_wb.evaluation.frame_store.FrameStore`) or ``[clips, 0]``, in the task's order.

    Raises:
        AudioError: a clip cannot be read.
        DataError: the encoder gives a clip an embedding that is not finite, or gives no layers.
    """
    clips = task.clips.clips
    if level == "audio":
        return np.zeros((len(clips), 0), dtype=np.float32)
    result: NDArray[np.float32] | None = None
    frames = FrameWriter(len(clips))
    done = 0
    batches = _decoded(clips, encoder.sample_rate, batch_seconds) if decoded is None else iter(decoded)
    for rows, embedded in _encoded(encoder, batches, level, clips, pools):  # [B, ...]
        _check_finite(embedded, [clips[row] for row in rows])
        if level == "frames":
            for row, count, one in zip(rows, frame_counts(embedded), embedded, strict=True):
                frames.add(row, one[:count])
        else:
            if result is None:
                result = np.zeros((len(clips), *embedded.shape[1:]), dtype=np.float32)
            result[rows] = embedded
        done += len(rows)
        if progress is not None:
            progress(done, len(clips))
    if not done:
        raise DataError(f"task {task.name!r} has no clips", hint="Check its manifest.")
    return frames.finish() if result is None else result


def _encoded(
    encoder: Encoder, batches: Iterator[Decoded], level: Level, clips: Sequence[Clip], pools: Sequence[str]
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Yield indices and embeddings of batches.

    On the CPU a small encoder gains little from several threads within one batch, so batches are encoded in parallel,
    with the threads divided among them.
    """
    threads = torch.get_num_threads()
    # Several threads may call a torch module on the CPU in evaluation mode; of others nothing is known.
    safe = (
        isinstance(encoder, nn.Module)
        and not encoder.training
        and all(tensor.device.type == "cpu" for tensor in encoder.parameters())
    )
    workers = min(threads, WORKERS) if safe else 1
    if workers == 1:
        yield from (_encode(encoder, level, clips, batch, pools) for batch in batches)
        return
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        started = started_ahead(
            batches, lambda batch: pool.submit(_encode, encoder, level, clips, batch, pools), workers
        )
        yield from (future.result() for future in started)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the workers' setting is global in MKL


@torch.no_grad()
def _encode(
    encoder: Encoder, level: Level, clips: Sequence[Clip], batch: Decoded, pools: Sequence[str]
) -> tuple[list[int], NDArray[np.float32]]:
    """Pad the waveforms of a batch and embed them as float32 ``[B, ...]``."""
    rows, waveforms = batch
    lengths = torch.tensor([len(waveform) for waveform in waveforms])  # [B]
    padded = torch.zeros(len(waveforms), int(lengths.max()))  # [B, S]
    for row, waveform in enumerate(waveforms):
        padded[row, : len(waveform)] = torch.from_numpy(waveform)
    try:
        return rows, _embed(encoder, padded, lengths, level, pools).float().cpu().numpy()
    except DataError as error:
        more = f" and {len(rows) - 1} more clips of its batch" if len(rows) > 1 else ""
        raise DataError(f"{clips[rows[0]].path}{more}: {error.message}", hint=error.hint) from error


def _embed(encoder: Encoder, waveform: Tensor, lengths: Tensor, level: Level, pools: Sequence[str] = ()) -> Tensor:
    """Embed waveforms ``[B, S]`` as ``[B, D]`` (clip), ``[B, L, D]`` (layers) or ``[B, T, D]`` (frames)."""
    if level == "clip" and pools:
        frames = encoder.embed_frames(waveform, lengths)  # [B, T, D], 0 past a clip's end
        return pool_clips(frames, _frame_counts(frames).tolist(), pools)
    if level == "clip":
        return encoder.embed_clip(waveform, lengths)
    if level == "frames":
        return encoder.embed_frames(waveform, lengths)
    layers = getattr(encoder, "layers", None)
    if not callable(layers):
        raise DataError(
            f"{type(encoder).__name__}: this encoder gives no layers",
            hint="Leave this evaluator out, or this encoder.",
        )
    latents = layers(waveform, lengths)  # [B, L, T, D], 0 past a clip's end
    counts = _frame_counts(latents[:, -1])  # [B]
    return latents.sum(dim=2) / counts[:, None, None]


def _frame_counts(frames: Tensor) -> Tensor:
    """Return how many frames each clip of ``[B, T, D]`` has, ``[B]``: the last one that is not 0 in all dimensions."""
    nonzero = (frames != 0).any(dim=-1)  # [B, T]
    numbers = torch.arange(1, frames.shape[1] + 1, device=frames.device)  # [T]
    return (nonzero * numbers).amax(dim=1).clamp(min=1)


def frame_counts(embeddings: Embedded) -> NDArray[np.int64]:
    """Return how many frames each clip of ``[clips, T, D]`` (0 past a clip's end) has, ``[clips]``."""
    if isinstance(embeddings, FrameStore):
        return embeddings.counts
    # Clip by clip: memory-mapped embeddings may not fit into memory.
    return np.array([int(_frame_counts(torch.tensor(one[None]))[0]) for one in embeddings], dtype=np.int64)


def decode_task(task: LoadedTask, sample_rate: int) -> list[Decoded]:
    """Decode every clip of a task, for several calls of :func:`embed_task`.

    Args:
        task: the clips.
        sample_rate: of the waveforms, in Hz; clips of other rates are resampled.

    Raises:
        AudioError: a clip cannot be read.
    """
    return list(_decoded(task.clips.clips, sample_rate, BATCH_SECONDS))


def _check_finite(embedded: NDArray[np.float32], clips: Sequence[Clip]) -> None:
    """Raise DataError naming the first clip whose embedding ``[B, ...]`` is not finite."""
    finite = np.isfinite(embedded).reshape(len(clips), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{clips[int(np.flatnonzero(~finite)[0])].path}: the encoder gives an embedding that is not finite",
            hint="If the recording is sound, the encoder's weights are not: did its training diverge?",
        )


def total_seconds(task: LoadedTask) -> float:
    """Return the length of all clips of a task, in seconds; opens files whose length the manifest does not give."""
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(_seconds, task.clips.clips))


def read_clip(clip: Clip, sample_rate: int) -> NDArray[np.float32]:
    """Decode a clip to a mono waveform, float32 ``[S]``.

    Raises:
        AudioError: it cannot be read.
    """
    return read(clip.path, sample_rate, start=clip.start, duration=clip.duration)


def _decoded(clips: Sequence[Clip], sample_rate: int, batch_seconds: float) -> Iterator[Decoded]:
    """Yield indices and waveforms of batches, decoding a few batches ahead."""
    with ThreadPoolExecutor(THREADS) as pool:
        seconds = list(pool.map(_seconds, clips))
        try:
            started = started_ahead(
                _batches(seconds, batch_seconds),
                lambda rows: (rows, [pool.submit(read_clip, clips[row], sample_rate) for row in rows]),
                AHEAD,
            )
            yield from ((rows, [future.result() for future in futures]) for rows, futures in started)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _batches(seconds: Sequence[float], batch_seconds: float) -> Iterator[list[int]]:
    """Group clips of similar length; a batch, padded to its longest clip, is at most ``batch_seconds`` long."""
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

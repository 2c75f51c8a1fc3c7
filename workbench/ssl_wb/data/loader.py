"""Micro-batches of crops, the same for any number of workers and processes.

torch's DataLoader decodes in worker processes. Which clips a micro-batch holds is decided here by position alone and
not by a sampler's state, so that a run can resume from one number, the clips seen so far.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from ssl_wb.data.dataset import Crop, CropDataset, UnreadableClips
from ssl_wb.data.order import clips_for
from ssl_wb.data.workers import (
    PATIENCE,
    PATIENCE_ANEW,
    POLL,
    WorkersLostError,
    end_with_parent,
    free_shared_memory,
    started,
    wait_for,
)
from ssl_wb.errors import UsageError, WorkbenchError

__all__ = ["Batch", "batches", "check_batch", "resolve_workers"]

#: Workers that "auto" starts at most: each costs memory for its copy of the list of clips. Set data.workers where
#: training waits for audio.
MOST_WORKERS = 4
#: Micro-batches that each worker loads ahead, so that one slow file does not stop training.
PREFETCH = 4
#: Micro-batches between two deaths of workers; below it half as many workers are started.
RESTARTED_SOON = 100

log = logging.getLogger("ssl_wb")


@dataclass(frozen=True)
class Batch:
    """One micro-batch of one process.

    Attributes:
        waveform: float32 ``[b, V, S]``, the views of each clip, zeros past its end; ``V`` is 1 without augmentation.
        lengths: int64 ``[b]``, samples before those zeros.
        clips: int64 ``[b]``, index of each clip in its set.
        first_row: row of the first clip within the global batch of its step.
        captions: float32 ``[b, C]``, embedding of one caption of each clip; None if the data has none.
    """

    waveform: Tensor
    lengths: Tensor
    clips: Tensor
    first_row: int
    captions: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Copy to a device; asynchronously if the memory is pinned."""
        tensors: dict[str, Any] = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **{name: value.to(device, non_blocking=True) for name, value in tensors.items()})


class _ErrorsAsItems(Dataset[Crop | WorkbenchError]):
    """Returns expected errors as items; raised in a worker, a DataLoader would turn them into text with a traceback."""

    def __init__(self, dataset: CropDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int]) -> Crop | WorkbenchError:
        try:
            return self.dataset[key]
        except WorkbenchError as error:
            return error


@dataclass(frozen=True)
class _BatchSampler(Sampler[list[tuple[int, int]]]):
    """Yields the keys of each micro-batch of one process: lists of (epoch, clip index)."""

    count: int
    seed: int
    first_sample: int
    global_batch: int
    steps: int
    accumulate: int
    rank: int
    world: int
    skip: int = 0

    @property
    def rows(self) -> int:
        """Clips of a micro-batch."""
        return self.global_batch // (self.world * self.accumulate)

    def first_row(self, micro_batch: int) -> int:
        """Row of the global batch at which this process's ``micro_batch`` begins.

        The micro-batches of all processes alternate. The first ``rows * world`` rows are then those of every process's
        first micro-batch, whatever their number: a batch means the same clips on one process as on eight.
        """
        return (micro_batch * self.world + self.rank) * self.rows

    def __len__(self) -> int:
        """Return all micro-batches, those to skip included."""
        return self.steps * self.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.steps):
            for micro_batch in range(self.accumulate):
                if step * self.accumulate + micro_batch < self.skip:
                    continue
                first = self.first_sample + step * self.global_batch + self.first_row(micro_batch)
                yield clips_for(range(first, first + self.rows), self.count, self.seed)


def check_batch(global_batch: int, world: int, accumulate: int) -> None:
    """Refuse a global batch that does not divide evenly over processes and micro-batches.

    Raises:
        UsageError: it does not.
    """
    if global_batch % (world * accumulate):
        raise UsageError(
            f"a batch of {global_batch} clips cannot be divided evenly: {world} process(es) "
            f"with {accumulate} micro-batch(es) each",
            hint=f"Set train.batch_size to a multiple of {world * accumulate}.",
        )


def batches(
    dataset: CropDataset,
    *,
    seed: int,
    first_sample: int,
    global_batch: int,
    steps: int,
    accumulate: int = 1,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
    unreadable: UnreadableClips | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Generator[Batch, None, None]:
    """Load the micro-batches of one process: ``steps * accumulate`` of them. Closing the generator ends the workers.

    Step ``k`` covers positions ``first_sample + k * global_batch ...`` of the endless order of clips. Within it,
    micro-batch ``m`` of process ``r`` takes the ``b = global_batch / (world * accumulate)`` rows that begin at
    ``(m * world + r) * b``.

    Args:
        dataset: the crops.
        seed: seed of the order.
        first_sample: clips seen before, by all processes together.
        global_batch: clips per optimiser step over all processes.
        steps: optimiser steps to load for.
        accumulate: micro-batches per step and process.
        rank: this process.
        world: number of processes.
        workers: processes that decode; 0 decodes in this one.
        unreadable: those that were met before; clips that cannot be read are added.
        stop: whether a signal asked to stop; looked at every few seconds of a wait for workers.

    Raises:
        UsageError: the global batch does not divide evenly.
        UnreadableDataError: too many clips are unreadable.
        StoppedWaitingError: a signal came while workers delivered nothing.
    """
    check_batch(global_batch, world, accumulate)
    sampler = _BatchSampler(len(dataset), seed, first_sample, global_batch, steps, accumulate, rank, world)
    return _load(dataset, sampler, workers, unreadable or UnreadableClips(dataset.clips.source), stop)


def _load(
    dataset: CropDataset, sampler: _BatchSampler, workers: int, unreadable: UnreadableClips, stop: Callable[[], bool]
) -> Generator[Batch, None, None]:
    """Run the DataLoader; its workers end when this generator is dropped, and are started anew if they die."""
    done, since, patience = 0, 0, PATIENCE
    shares = workers > 0 and _shared_memory_suffices(dataset, sampler.rows, workers)
    while done < len(sampler):
        try:
            with closing(_loaded(dataset, replace(sampler, skip=done), workers, shares, stop, patience)) as stream:
                for loaded in stream:
                    if isinstance(loaded, WorkbenchError):
                        raise loaded
                    waveform, lengths, clips, captions, found = loaded
                    unreadable.add(found, sampler.first_sample + (done + 1) * sampler.rows * sampler.world)
                    done += 1
                    yield Batch(waveform, lengths, clips, sampler.first_row((done - 1) % sampler.accumulate), captions)
        except WorkersLostError as error:
            # Which clips a batch holds follows from its number, so that new workers go on where the old ones ended.
            # Fewer of them where they die soon, because memory may be short.
            workers, shares = (workers // 2 if done - since < RESTARTED_SOON else workers), False
            since, patience = done, PATIENCE_ANEW
            log.warning("%s; reading goes on %s", error, f"with {workers} new" if workers else "in this process")


def _loaded(
    dataset: CropDataset,
    sampler: _BatchSampler,
    workers: int,
    shares: bool,
    stop: Callable[[], bool],
    patience: float,
) -> Generator[_Loaded | WorkbenchError, None, None]:
    """Yield what one set of workers loads, or this process where there are none; ``patience`` is for the first."""
    loader: DataLoader[Any] = DataLoader(
        _ErrorsAsItems(dataset),
        batch_sampler=sampler,
        collate_fn=_collate if shares or not workers else _collate_arrays,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        # Not what comes through a pipe: a worker that is ended while it writes there leaves half a batch, for which
        # torch's pinning thread would wait for ever.
        pin_memory=torch.cuda.is_available() and (shares or not workers),
        worker_init_fn=_start_worker,
        timeout=POLL if workers else 0,
    )
    if not workers:
        yield from loader
        return
    loading, processes, end = started(lambda: iter(loader))
    try:
        while True:
            loaded = wait_for(loading, processes, stop, patience)
            patience = PATIENCE
            yield loaded if isinstance(loaded, WorkbenchError) else _tensors(loaded)
    except StopIteration:
        return
    finally:
        end()


def _shared_memory_suffices(dataset: CropDataset, rows: int, workers: int) -> bool:
    """Whether all batches that workers load ahead fit into the shared memory; Docker gives 64 MB unless asked."""
    free = free_shared_memory()
    needed = workers * (PREFETCH + 1) * rows * dataset.views * dataset.samples * 4
    if free is None or needed < free // 2:
        return True
    log.warning(
        "/dev/shm has %d MB free and %d data workers need about %d MB: batches are sent through pipes, which is slower "
        "(docker run --shm-size=2g makes it larger)",
        free // 2**20,
        workers,
        needed // 2**20,
    )
    return False


#: Waveforms, lengths, clips, captions, and the clips that could not be read.
_Loaded = tuple[Tensor, Tensor, Tensor, Tensor | None, tuple[tuple[int, str], ...]]


def _collate(items: list[Crop | WorkbenchError]) -> _Loaded | WorkbenchError:
    """Stack waveforms, lengths, clips and captions; a tuple, because torch does not pin the memory of other classes."""
    crops: list[Crop] = []
    for item in items:
        if isinstance(item, WorkbenchError):
            return item
        crops.append(item)
    captions = [crop.caption for crop in crops if crop.caption is not None]
    return (
        torch.from_numpy(np.stack([crop.waveform for crop in crops])),  # [b, V, S]
        torch.tensor([crop.length for crop in crops]),  # [b]
        torch.tensor([crop.clip for crop in crops]),  # [b]
        torch.from_numpy(np.stack(captions)) if captions else None,  # [b, C]
        tuple(one for crop in crops for one in crop.unreadable),
    )


def _collate_arrays(items: list[Crop | WorkbenchError]) -> Any:
    """Stack as :func:`_collate` into arrays, which are sent through a pipe; torch sends tensors by shared memory."""
    loaded = _collate(items)
    if isinstance(loaded, WorkbenchError):
        return loaded
    return tuple(part.numpy() if isinstance(part, Tensor) else part for part in loaded)


def _tensors(loaded: Any) -> _Loaded:
    """Undo :func:`_collate_arrays`."""
    parts: Any = tuple(torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in loaded)
    tensors: _Loaded = parts
    return tensors


def _start_worker(worker: int) -> None:
    """Leave signals to the training process, which ends its workers, and give each worker one core."""
    del worker
    end_with_parent()
    # Ctrl-C reaches the whole process group; a worker that died of it would end the step that is still to be finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)


def resolve_workers(workers: int | Literal["auto"]) -> int:
    """Return the number of workers; "auto" leaves one core to training and starts at most 4.

    Raises:
        UsageError: a negative number.
    """
    if workers == "auto":
        try:
            cores = len(os.sched_getaffinity(0))  # those this process may use, fewer than the machine's under Slurm
        except AttributeError:  # not on macOS and Windows
            cores = os.cpu_count() or 1
        return max(1, min(MOST_WORKERS, cores - 1))
    if workers < 0:
        raise UsageError(f"data.workers is {workers}; it cannot be negative", hint="Set it to 'auto', 0 or more.")
    return workers

"""How many clips fit into memory at once: ``train.micro_batch = "auto"`` and ``train.accumulate = "auto"``.

The batch of an optimiser step stays as the recipe has it; what is found is in how many passes it goes through the
encoder. On CUDA a whole step is rehearsed for one number of clips after the other, and the device says what fits. A
CPU's memory has no such answer (the system ends the process), so one small step is rehearsed there, and what it took,
held against the plan's estimate of it, says what larger ones will take.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator, DistributedType

from ssl_wb.errors import UsageError
from ssl_wb.pretext.plan import Plan, make_plan
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.train.memory import PeakMemory, free_bytes
from ssl_wb.train.rehearsal import rehearse

__all__ = ["dividing", "find_passes", "largest_that_fits"]

log = logging.getLogger("ssl_wb")

#: Share of the free memory that is taken: allocators leave gaps, and other programs may want some.
TAKEN = 0.9
#: Clips of the small step that a CPU's need is told from.
SMALL = 4
_GIBIBYTE = 2**30


def dividing(clips: int) -> list[int]:
    """Return the numbers of clips that one pass can have, rising, where all passes are of one size."""
    return [rows for rows in range(1, clips + 1) if clips % rows == 0]


def largest_that_fits(sizes: Sequence[int], fits: Callable[[int], bool]) -> int | None:
    """Return the largest of rising sizes that fits, asking about few of them; None where the smallest does not.

    Args:
        sizes: rising.
        fits: whether a size does; if one does, all smaller ones do.
    """
    low, high = -1, len(sizes) - 1  # sizes up to low fit, beyond high they do not
    while low < high:
        middle = (low + high + 1) // 2
        if fits(sizes[middle]):
            low = middle
        else:
            high = middle - 1
    return sizes[low] if low >= 0 else None


def find_passes(loaded: LoadedRecipe, accelerator: Accelerator) -> LoadedRecipe:
    """Return the recipe with the number that ``train`` leaves to be found; as it is where there is none.

    All processes come to the same number: that of the one with the least room.

    Raises:
        UsageError: not even one clip fits, the free memory cannot be told, or the model is sharded.
    """
    train, processes = loaded.recipe.train, accelerator.num_processes
    key = train.searched
    if key is None:
        return loaded
    if accelerator.distributed_type == DistributedType.FSDP:
        raise UsageError(
            f"train.{key} = 'auto' tries a whole model on each process, and FSDP shards it",
            hint=f"--set train.{key}=NUMBER, or train.strategy = 'ddp'",
        )
    sizes = dividing(train.batch_size // processes)
    free = _free(accelerator, key)
    if accelerator.device.type == "cuda":
        rows = largest_that_fits(sizes, lambda rows: _fits(loaded, accelerator, rows, free))
    else:
        need = _need(loaded, accelerator, sizes)
        rows = largest_that_fits(sizes, lambda rows: _everywhere(accelerator, need(rows) <= TAKEN * free))
    if rows is None:
        raise UsageError(
            f"train.{key} = 'auto': not even {sizes[0]} clip at a time fits into {free / _GIBIBYTE:.1f} GiB",
            hint="take a smaller backbone, shorter clips, train.checkpoint_blocks = 1, or fewer processes per machine",
        )
    passes = train.batch_size // processes // rows
    found = train.found(passes, processes)
    if accelerator.is_main_process:
        log.info(
            "train.%s = %d: %d clips at a time fit into %.1f GiB, %d pass%s per step",
            key,
            getattr(found, key),
            rows,
            free / _GIBIBYTE,
            passes,
            "" if passes == 1 else "es",
        )
    return replace(loaded, recipe=loaded.recipe.model_copy(update={"train": found}))


def _free(accelerator: Accelerator, key: str) -> float:
    """Return the bytes that this process may have; processes of one machine share its memory, not its GPUs."""
    free = free_bytes(accelerator.device)
    if free is None:
        raise UsageError(
            f"train.{key} = 'auto': this system does not tell how much memory is free",
            hint=f"--set train.{key}=NUMBER",
        )
    beside = 1 if accelerator.device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return free / beside


def _everywhere(accelerator: Accelerator, here: bool) -> bool:
    """Whether something holds on every process."""
    answer = torch.tensor([int(here)], device=accelerator.device)
    return bool(accelerator.gather(answer).min())


def _tried(loaded: LoadedRecipe, rows: int, processes: int) -> TrainSection:
    train = loaded.recipe.train
    return train.found(train.batch_size // processes // rows, processes)


def _fits(loaded: LoadedRecipe, accelerator: Accelerator, rows: int, free: float) -> bool:
    """Rehearse a step of so many clips at a time on a GPU."""
    processes, peak = accelerator.num_processes, PeakMemory(accelerator.device)
    try:
        rehearse(loaded, accelerator, _tried(loaded, rows, processes), processes)
        here = (peak.read() or 0) <= TAKEN * free
    except torch.OutOfMemoryError:
        here = False
    # Outside of the handler, whose traceback holds the step's tensors.
    gc.collect()
    torch.cuda.empty_cache()
    return _everywhere(accelerator, here)


def _need(loaded: LoadedRecipe, accelerator: Accelerator, sizes: Sequence[int]) -> Callable[[int], float]:
    """Rehearse a small step and return what tells the bytes of others."""
    plan, train = make_plan(loaded), loaded.recipe.train
    half = accelerator.mixed_precision != "no"
    judged = train.batch_size // accelerator.num_processes if train.searched == "micro_batch" else None
    small = max(rows for rows in sizes if rows <= SMALL)
    peak = PeakMemory(accelerator.device)
    # Its passes meet in no loss: what is kept of a whole batch is in the plan, and half an hour is no rehearsal.
    section = train.model_copy(update={"micro_batch": None, "accumulate": 1, "batch_size": small})
    rehearse(loaded, accelerator, section, 1)
    took = peak.read()
    gc.collect()
    return lambda rows: _bytes(plan, rows, half, judged) * _surplus(plan, small, half, took)


def _surplus(plan: Plan, small: int, half: bool, took: int | None) -> float:
    """Return by how much a step takes more than the plan says; at least 1, for memory freed before is not counted."""
    return max(1.0, (took or 0) / plan.memory_bytes(small, half=half))


def _bytes(plan: Plan, rows: int, half: bool, judged: int | None) -> int:
    return plan.memory_bytes(rows, half=half, judged=judged)

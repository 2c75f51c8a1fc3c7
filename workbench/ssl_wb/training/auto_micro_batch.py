"""How many clips fit into memory at once: ``train.micro_batch = "auto"`` and ``train.accumulate = "auto"``.

The batch of an optimiser step stays as the recipe has it; what is found is in how many passes it goes through the
encoder. On CUDA a whole step is rehearsed for one number of clips after the other, and the device says what fits. A
CPU's memory has no such answer (the system ends the process), so two small steps are rehearsed there, and what they
took beyond the plan is added to the plan of larger ones.
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
from ssl_wb.pretext.plan import Kept, Plan, kept_bytes
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.training.dry_run import rehearse
from ssl_wb.training.memory import PeakMemory, free_bytes

__all__ = ["dividing", "find_passes", "largest_that_fits"]

log = logging.getLogger("ssl_wb")

#: Share of the free memory that is taken: allocators leave gaps, and other programs may want some.
TAKEN = 0.9
#: Most clips of the two small steps that a CPU's need is told from.
SMALL = (4, 16)
#: A small step is tried where so many times its activations fit.
MARGIN = 2.5
#: How many times the plan is reckoned with where there is no room to find out.
UNKNOWN = 1.5
#: What GPU libraries say when memory runs out.
_NO_MEMORY = ("out of memory", "alloc_failed", "cuda_error_out_of_memory", "cannot allocate memory")
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


def find_passes(loaded: LoadedRecipe, plan: Plan, accelerator: Accelerator) -> LoadedRecipe:
    """Return the recipe with the number that ``train`` leaves to be found; as it is where there is none.

    All processes come to the same number: that of the one with the least room.

    Args:
        loaded: the recipe.
        plan: its plan.
        accelerator: the run's engine.

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
        need = _Need(loaded, plan, accelerator)
        need.rehearse(sizes, TAKEN * free)
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
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        here = False
    # Outside of the handler, whose traceback holds the step's tensors.
    gc.collect()
    torch.cuda.empty_cache()
    return _everywhere(accelerator, here)


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU or one of its libraries said that memory ran out; not all of them by torch's own error."""
    words = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(each in words for each in _NO_MEMORY)


class _Need:
    """Bytes of a step on the CPU: as the plan counts them, corrected by what small steps took.

    Args:
        loaded: the recipe.
        plan: its plan.
        accelerator: the run's engine.
    """

    def __init__(self, loaded: LoadedRecipe, plan: Plan, accelerator: Accelerator) -> None:
        self._loaded, self._accelerator = loaded, accelerator
        train, processes = loaded.recipe.train, accelerator.num_processes
        self._traced: dict[int, Kept] = {}
        parameters = sum(plan.parameters.values())
        # Several processes send gradients from buckets that hold them a second time.
        self._state = plan.state_bytes + (4 * parameters if processes > 1 else 0)
        self._judged = train.batch_size // processes if train.searched == "micro_batch" else None
        self._base, self._slope = 0.0, UNKNOWN

    def __call__(self, rows: int) -> float:
        """Return the bytes of a step of so many clips at a time."""
        if self._judged is None or rows >= self._judged:
            kept = self._kept(rows).together
        else:
            whole = self._kept(self._judged)
            kept = Kept(self._kept(rows).encoder, whole.objectives, whole.read).cached
        return self._state + self._base + self._slope * self._half(kept)

    def _kept(self, rows: int) -> Kept:
        """Trace so many clips, once: it builds the model anew."""
        if rows not in self._traced:
            self._traced[rows] = kept_bytes(self._loaded, rows)
        return self._traced[rows]

    def _planned(self, rows: int) -> float:
        """Return the bytes that a rehearsal of so many clips will hardly reach."""
        return self._state + MARGIN * self._half(self._kept(rows).together)

    def _half(self, kept: int) -> int:
        return kept // 2 if self._accelerator.mixed_precision != "no" else kept

    def rehearse(self, sizes: Sequence[int], room: float) -> None:
        """Do steps of few clips, as far as they fit, and learn what they take beside and beyond the plan.

        Their passes meet in no loss: what a loss keeps of a whole batch is counted, and half an hour is no rehearsal.

        Args:
            sizes: numbers of clips that divide the batch.
            room: bytes that may be taken.
        """
        train = self._loaded.recipe.train
        took: dict[int, float] = {}
        peak = PeakMemory(self._accelerator.device)  # one for all: what is freed is not given back
        for limit in SMALL:
            rows = largest_that_fits([size for size in sizes if size <= limit], lambda rows: self._planned(rows) < room)
            if rows is None or rows in took:
                continue
            section = train.model_copy(update={"micro_batch": None, "accumulate": 1, "batch_size": rows})
            rehearse(self._loaded, self._accelerator, section, 1)
            took[rows] = float(peak.read() or 0)
            gc.collect()
        if took:
            self._slope = 1.0
        kept = {rows: self._half(self._kept(rows).together) for rows in took}
        if len(took) > 1:
            (few, less), (many, more) = sorted(took.items())
            # Never below the plan: memory freed earlier is used again, and the peak does not show it.
            self._slope = max(1.0, (more - less) / (kept[many] - kept[few]))
        for rows, bytes_taken in took.items():
            self._base = max(self._base, bytes_taken - self._state - self._slope * kept[rows])

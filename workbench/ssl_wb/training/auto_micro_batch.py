"""How many clips fit into memory at once: ``train.micro_batch = "auto"`` and ``train.accumulate = "auto"``.

The batch of an optimiser step stays as the recipe has it; what is found is the number of passes that it takes. On a
GPU a whole step is tried, for fewer and fewer clips at a time, until it fits. On a CPU a step is too slow to measure,
and a system without memory ends the process instead of raising an error: memory is estimated from the plan instead.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import find_executable_batch_size

from ssl_wb.errors import UsageError
from ssl_wb.pretext.plan import Kept, Plan, kept_bytes
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.training.dry_run import dry_run
from ssl_wb.training.memory import free_bytes

__all__ = ["dividing", "find_passes"]

log = logging.getLogger("ssl_wb")

#: Share of the free memory that is used: allocators leave gaps, and other programs may need some.
USED = 0.9
#: An estimate's activations are multiplied by this: the plan counts what autograd keeps, and temporary tensors and the
#: front end's come on top.
MARGIN = 1.5
_GIBIBYTE = 2**30


class _NothingFitsError(Exception):
    """Not even the smallest number of clips fits."""


def dividing(clips: int) -> list[int]:
    """Return the numbers of clips that one pass can have, rising, where all passes are of one size."""
    return [rows for rows in range(1, clips + 1) if clips % rows == 0]


# More than fifty lines, half of them messages to the user.
def find_passes(loaded: LoadedRecipe, plan: Plan, accelerator: Accelerator) -> LoadedRecipe:
    """Return the recipe with the number that ``train`` has as 'auto'; unchanged where it has none.

    All processes get the same number: that of the process with the least memory.

    Args:
        loaded: the recipe.
        plan: its plan.
        accelerator: the run's engine.

    Raises:
        UsageError: not even one clip fits, the free memory cannot be told, or the model is sharded.
    """
    train, processes, device = loaded.recipe.train, accelerator.num_processes, accelerator.device
    key = train.searched
    if key is None:
        return loaded
    if accelerator.distributed_type == DistributedType.FSDP:
        raise UsageError(
            f"train.{key} = 'auto' tries a whole model on each process, and FSDP shards it",
            hint=f"--set train.{key}=NUMBER, or train.strategy = 'ddp'",
        )
    free = free_bytes(device)
    if free is None:
        raise UsageError(
            f"train.{key} = 'auto': this system does not tell how much memory is free",
            hint=f"--set train.{key}=NUMBER",
        )
    if device.type == "cuda":
        rows = _measured(loaded, accelerator, USED * free)
    else:
        free = free // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes of one machine share its memory
        rows = _estimated(loaded, plan, accelerator, USED * free)
    # Each process has searched by itself, so that none waits for another that ran out of memory.
    rows = _least(accelerator, rows)
    if rows == 0:
        raise UsageError(
            f"train.{key} = 'auto': not even 1 clip at a time fits into {free / _GIBIBYTE:.1f} GiB",
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


def _least(accelerator: Accelerator, rows: int) -> int:
    """Return the smallest of all processes' numbers."""
    return int(accelerator.gather(torch.tensor([rows], device=accelerator.device)).min())


def _measured(loaded: LoadedRecipe, accelerator: Accelerator, usable: float) -> int:
    """Return the most clips at a time whose step fits on this GPU; 0 where none do."""
    train, processes = loaded.recipe.train, accelerator.num_processes
    here = train.batch_size // processes
    smaller = iter(dividing(here)[-2::-1])

    def shrink() -> int:
        try:
            return next(smaller)
        except StopIteration:
            raise _NothingFitsError from None

    def attempt(rows: int) -> int:
        dry_run(loaded, accelerator, train.found(here // rows, processes), processes)
        return rows

    search = find_executable_batch_size(attempt, starting_batch_size=here, reduce_batch_size_fn=shrink)
    with _memory_limit(accelerator.device, usable):
        try:
            return int(search())
        except _NothingFitsError:
            return 0


@contextmanager
def _memory_limit(device: torch.device, usable: float) -> Iterator[None]:
    """Let torch run out of a GPU's memory after so many more bytes than it has now."""
    total = torch.cuda.get_device_properties(device).total_memory
    share = (torch.cuda.memory_reserved(device) + usable) / total
    torch.cuda.set_per_process_memory_fraction(min(1.0, share), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def _estimated(loaded: LoadedRecipe, plan: Plan, accelerator: Accelerator, usable: float) -> int:
    """Return the most clips at a time that should fit by the plan; 0 where none do."""
    train, processes = loaded.recipe.train, accelerator.num_processes
    here = train.batch_size // processes
    # DDP sends gradients from buckets that hold them a second time.
    state = plan.state_bytes + (4 * sum(plan.parameters.values()) if processes > 1 else 0)
    bytes_per_float = 2 if accelerator.mixed_precision != "no" else 4
    whole = kept_bytes(loaded, here)
    for rows in reversed(dividing(here)):
        # Traced for each size: a loss over pairs of clips grows with their square.
        kept = whole if rows == here else kept_bytes(loaded, rows)
        if train.searched == "micro_batch" and rows < here:  # one loss over all clips, with gradient caching
            activations = Kept(kept.encoder, whole.objectives, whole.outputs).cached
        else:
            activations = kept.together
        if state + MARGIN * activations * bytes_per_float / 4 <= usable:
            return rows
    return 0

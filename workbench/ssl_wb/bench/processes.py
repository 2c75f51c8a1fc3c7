"""Several processes against one: groups of 1, 2, 4, ... share one batch and take turns, step by step."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.distributed import DistStoreError, TCPStore

from ssl_wb.bench.entries import check_memory
from ssl_wb.bench.figures import ratio, spread
from ssl_wb.bench.report import environment_of, head_of, scaling_of
from ssl_wb.bench.timed_trainer import Entry
from ssl_wb.errors import UsageError, WorkbenchError
from ssl_wb.recipe.load import resolved, to_toml
from ssl_wb.runs.device import mixed_precision
from ssl_wb.training.launch import threads_each

__all__ = ["bench_processes", "group_sizes"]

#: Characters of a failed group's output that are shown.
_SHOWN = 2000
#: Seconds between checks whether a group still runs, and seconds that it gets to end.
_LOOK, _PATIENCE = timedelta(seconds=0.5), 30


def group_sizes(most: int) -> list[int]:
    """Return 1, 2, 4, ... up to ``most`` processes."""
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


class _Group:
    """Processes that share a batch and step when they are told to; between steps they wait and take no time.

    They are launched as a run's are (:mod:`ssl_wb.bench.worker`), and told through a store of torch's.

    Args:
        size: processes.
        threads: threads of each.
        recipe: the recipe's file, everything resolved.
        device: ``cpu`` or ``cuda``.
        warmup: steps that do not count.
        store: has the orders, ``SIZE/order/N``, and the answers, ``SIZE/answer/N/RANK``; the first answer, 0, says that
            the process is warm.
    """

    def __init__(self, size: int, threads: int, recipe: Path, device: str, warmup: int, store: TCPStore) -> None:
        self.size, self.seconds, self._store, self._answered = size, list[float](), store, 0
        self._log = recipe.with_suffix(f".{size}.log")
        words = [str(size), str(recipe), device, str(warmup), str(store.port)]
        with self._log.open("w", encoding="utf-8") as log:
            self._launcher = subprocess.Popen(
                [sys.executable, "-m", "ssl_wb.bench.worker", *words],
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def answers(self) -> list[float]:
        """Wait for the next answer of every process.

        Raises:
            WorkbenchError: the group has ended.
        """
        keys = [f"{self.size}/answer/{self._answered}/{rank}" for rank in range(self.size)]
        self._answered += 1
        while True:
            with suppress(DistStoreError):  # not yet
                self._store.wait(keys, _LOOK)
                return [float(self._store.get(key)) for key in keys]
            if self._launcher.poll() is not None:
                said = self._log.read_text(encoding="utf-8", errors="replace").strip()[-_SHOWN:]
                raise WorkbenchError(f"a process of {self.size} that were measured ended: {said or 'without output'}")

    def step(self) -> None:
        """Do one optimiser step together; it takes as long as the slowest process."""
        self._store.set(f"{self.size}/order/{self._answered}", "step")
        self.seconds.append(max(self.answers()))

    def __enter__(self) -> _Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the processes end; stop them where something went wrong."""
        if error is None:
            self._store.set(f"{self.size}/order/{self._answered}", "leave")
        else:
            self._launcher.terminate()  # the launcher passes it on to its processes
        try:
            self._launcher.wait(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._launcher.kill()
            self._launcher.wait()


# More than fifty lines, half of them the arguments' description.
def bench_processes(
    entry: Entry,
    *,
    device: torch.device,
    repeats: int,
    warmup: int,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Measure how the step of one batch shrinks with the processes that share it.

    On the CPU every process of every group has the same number of threads: cores over the processes of the largest
    group. On CUDA each has a GPU of its own.

    Args:
        entry: the recipe; its batch is shared.
        device: ``cpu`` or ``cuda``.
        repeats: rounds; in each, every group does one step.
        warmup: steps of each group that do not count.
        progress: told what is done, how much of it, of how much.

    Returns:
        As :func:`ssl_wb.bench.run.bench`, with ``processes``, ``threads`` and ``share_of_ideal`` of each group: the
        time of one process over the group's time and its processes.

    Raises:
        UsageError: there is one core or GPU only, the batch does not divide, or it does not fit into memory.
        WorkbenchError: a process failed.
    """
    cuda = device.type == "cuda"
    sizes = group_sizes(torch.cuda.device_count() if cuda else threads_each(1))
    if len(sizes) == 1:
        raise UsageError(f"--scale processes: there is one {'GPU' if cuda else 'core'} here")
    train = entry.loaded.recipe.train
    if train.batch_size % (sizes[-1] * train.passes(sizes[-1])):
        raise UsageError(
            f"a batch of {train.batch_size} clips does not divide by {sizes[-1]} processes",
            hint=f"--batch with a multiple of {sizes[-1]}",
        )
    # Every group has a process on the first GPU, and each keeps its memory: 1 + 1/2 + 1/4 ... of a batch.
    check_memory([entry] * (len(sizes) if cuda else sum(sizes)), device, steps=2 if cuda else 1)
    threads = threads_each(sizes[-1])
    store = TCPStore("127.0.0.1", 0, is_master=True)
    with tempfile.TemporaryDirectory(prefix="ssl-wb-") as name, ExitStack() as stack:
        groups: list[_Group] = []
        recipe = Path(name) / f"{entry.name}.toml"
        recipe.write_text(to_toml(resolved(entry.loaded)), encoding="utf-8")
        total = len(sizes) * (1 + repeats)
        for number, size in enumerate(sizes):
            progress(f"{size} process{'es' if size > 1 else ''}: warming up", number, total)
            groups.append(stack.enter_context(_Group(size, threads, recipe, device.type, warmup, store)))
            groups[-1].answers()  # one after the other: warming up together takes more memory, and no figure needs it
        for turn in range(repeats):
            for number, group in enumerate(groups):
                progress(f"{group.size} processes", len(sizes) * (1 + turn) + number, total)
                group.step()
    return _report(entry, groups, device, threads, repeats, warmup)


def _report(
    entry: Entry, groups: Sequence[_Group], device: torch.device, threads: int, repeats: int, warmup: int
) -> dict[str, Any]:
    recipe, alone = entry.loaded.recipe, groups[0].seconds
    precision = mixed_precision(recipe.train.precision, device)
    measured = []
    for group in groups:
        step, compared = spread(group.seconds), ratio(alone, group.seconds)
        measured.append(
            {
                "name": str(group.size),
                "processes": group.size,
                "threads": threads,
                "recipe": str(entry.loaded.path),
                "title": recipe.title,
                "overrides": list(entry.loaded.overrides),
                "batch_clips": recipe.train.batch_size,
                "precision": "fp32" if precision == "no" else precision,
                "step_seconds": step,
                "clips_per_second": recipe.train.batch_size / step["median"],
                "share_of_ideal": {key: value / group.size for key, value in compared.items()},
                "each": {"step_seconds": group.seconds},
            }
        )
    sizes = [float(group.size) for group in groups]
    return {
        **head_of(measured, repeats=repeats, warmup=warmup),
        "scale": scaling_of("processes", "processes", sizes, [group.seconds for group in groups]),
        "environment": environment_of(device, precision, recipe.seed, groups[-1].size),
    }

"""Several processes against one: groups of 1, 2, 4, ... share one batch and take turns, step by step."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import IO, Any

import torch

from ssl_wb.bench.entries import check_memory
from ssl_wb.bench.figures import ratio, spread
from ssl_wb.bench.report import environment_of, head_of, scaling_of
from ssl_wb.bench.timed_trainer import Entry
from ssl_wb.errors import UsageError, WorkbenchError
from ssl_wb.recipe.load import resolved, to_toml
from ssl_wb.runs.device import mixed_precision
from ssl_wb.training.launch import threads_each

__all__ = ["READY", "bench_processes", "group_sizes"]

#: What a worker says once it is warm.
READY = "ready"
#: Characters of a failed worker's stderr that are shown.
_SHOWN = 2000
#: Seconds between looks at whether all workers live, and those that they get to leave.
_LOOK, _PATIENCE = 0.2, 30


def group_sizes(most: int) -> list[int]:
    """Return 1, 2, 4, ... up to ``most`` processes."""
    return [2**power for power in range(most.bit_length()) if 2**power <= most]


class _Group:
    """Processes that share a batch and step when they are told to; between steps they wait and take no time.

    Args:
        size: processes.
        threads: threads of each.
        recipe: the recipe's file, everything resolved.
        device: ``cpu`` or ``cuda``.
        warmup: steps that do not count.
        folder: where the workers' stderr goes.
    """

    def __init__(self, size: int, threads: int, recipe: Path, device: str, warmup: int, folder: Path) -> None:
        self.size, self.seconds = size, list[float]()
        self._logs = [folder / f"{size}-{rank}.log" for rank in range(size)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = [sys.executable, "-m", "ssl_wb.bench.worker", str(recipe), device, str(warmup)]
        place = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1"}
        self._workers: list[subprocess.Popen[str]] = []
        self._said: list[Queue[str | None]] = []  # of each worker, line by line; None at the end
        for rank, log in enumerate(self._logs):
            own = {**place, "MASTER_PORT": port, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            if size == 1:
                own = {}  # as a run that nobody launched
            with log.open("w", encoding="utf-8") as errors:
                worker = subprocess.Popen(
                    command,
                    env={**os.environ, **own, "OMP_NUM_THREADS": str(threads)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            self._workers.append(worker)
            said: Queue[str | None] = Queue()
            threading.Thread(target=_listen, args=(_pipe(worker.stdout), said), daemon=True).start()
            self._said.append(said)

    def ready(self) -> None:
        """Wait until every process is warm."""
        self._lines()

    def step(self) -> None:
        """Do one optimiser step together; it takes as long as the slowest process."""
        for worker in self._workers:
            try:
                _pipe(worker.stdin).write("step\n")
                _pipe(worker.stdin).flush()
            except BrokenPipeError:
                raise self._failure() from None
        try:
            self.seconds.append(max(float(line) for line in self._lines()))
        except ValueError:
            raise self._failure() from None

    def _lines(self) -> list[str]:
        """Wait for a line of every process; where one has ended, the others may wait for it forever."""
        lines = []
        for said in self._said:
            line: str | None = ""
            while line == "":
                try:
                    line = said.get(timeout=_LOOK)
                except Empty:
                    if any(worker.poll() is not None for worker in self._workers):
                        line = None
            if line is None:
                raise self._failure()
            lines.append(line)
        return lines

    def _failure(self) -> WorkbenchError:
        """Describe a group of which a process is gone, by the last words of the first that had any."""
        said = [log.read_text(encoding="utf-8", errors="replace").strip()[-_SHOWN:] for log in self._logs]
        words = next((each for each in said if each), "without a word")
        return WorkbenchError(f"a process of {self.size} that were measured ended: {words}")

    def __enter__(self) -> _Group:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the processes go, all at once: they wait for each other. Kill them where something went wrong."""
        for worker in self._workers:
            if error is not None:
                worker.kill()
            with suppress(BrokenPipeError):
                _pipe(worker.stdin).close()  # the word to leave
        for worker in self._workers:
            try:
                worker.wait(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def _listen(pipe: IO[str], said: Queue[str | None]) -> None:
    """Put what a worker says into a queue, from its first word on: what else is printed before is not for us."""
    warm = False
    for line in map(str.strip, pipe):
        warm = warm or line == READY
        if warm and line:
            said.put(line)
    said.put(None)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


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
    # The first GPU has a process of every group, and each keeps what its step took: 1 + 1/2 + 1/4 ... of a batch.
    check_memory([entry] * (len(sizes) if cuda else sum(sizes)), device, steps=2 if cuda else 1)
    threads = threads_each(sizes[-1])
    with tempfile.TemporaryDirectory(prefix="ssl-wb-") as name, ExitStack() as stack:
        folder, groups = Path(name), list[_Group]()
        recipe = folder / f"{entry.name}.toml"
        recipe.write_text(to_toml(resolved(entry.loaded)), encoding="utf-8")
        total = len(sizes) * (1 + repeats)
        for number, size in enumerate(sizes):
            progress(f"{size} process{'es' if size > 1 else ''}: warming up", number, total)
            groups.append(stack.enter_context(_Group(size, threads, recipe, device.type, warmup, folder)))
            groups[-1].ready()  # one after the other: they would disturb each other's memory, and no figure
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
    contestants = []
    for group in groups:
        step, compared = spread(group.seconds), ratio(alone, group.seconds)
        contestants.append(
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
        **head_of(contestants, repeats=repeats, warmup=warmup),
        "scale": scaling_of("processes", "processes", sizes, [group.seconds for group in groups]),
        "environment": environment_of(device, precision, recipe.seed, groups[-1].size),
    }

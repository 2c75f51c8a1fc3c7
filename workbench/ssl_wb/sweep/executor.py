"""Where the runs of a sweep are started: processes of this machine. A cluster's queue would be another executor."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

__all__ = ["Executor", "Job", "LocalExecutor"]

#: Seconds between looks whether a process has ended, and seconds that stopped processes get for their checkpoint.
LOOK, GRACE = 0.1, 120.0


@dataclass(frozen=True)
class Job:
    """One command to run.

    Attributes:
        name: of the run.
        words: what follows ``ssl-wb``.
        log: file that takes its output.
    """

    name: str
    words: tuple[str, ...]
    log: Path


class Executor(Protocol):
    """Starts jobs and says when they end."""

    def submit(self, job: Job) -> None:
        """Start a job."""
        ...

    def wait(self, seconds: float) -> tuple[Job, int] | None:
        """Return a job that has ended and its exit code; None if none does within some seconds."""
        ...

    def stop(self) -> list[tuple[Job, int]]:
        """Ask all jobs to write a checkpoint and end, wait for them, and return them with their exit codes."""
        ...


class LocalExecutor:
    """Runs each job in a process of its own on this machine.

    Args:
        workers: jobs that run at a time; on the CPU they share the cores.
        devices: GPUs, to which jobs are given in turn; 0 without GPUs, or to stay off them.
    """

    def __init__(self, workers: int, devices: int = 0) -> None:
        self._workers, self._devices = workers, devices
        self._running: dict[int, tuple[Job, subprocess.Popen[bytes], IO[bytes]]] = {}

    def submit(self, job: Job) -> None:
        """Start a job."""
        slot = next(number for number in range(self._workers + 1) if number not in self._running)
        environment = dict(os.environ)
        if self._devices > 1:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % self._devices)
        if not self._devices and self._workers > 1:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // self._workers)))
        job.log.parent.mkdir(parents=True, exist_ok=True)
        log = job.log.open("ab")
        # A session of its own: Ctrl-C in the terminal reaches the sweep, which asks its runs to stop once. A second
        # signal would end them without a checkpoint.
        process = subprocess.Popen(
            [sys.executable, "-m", "ssl_wb", *job.words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        self._running[slot] = (job, process, log)

    def wait(self, seconds: float) -> tuple[Job, int] | None:
        """Return a job that has ended and its exit code; None if none does within some seconds."""
        end = time.monotonic() + seconds
        while True:
            for slot, (job, process, log) in self._running.items():
                code = process.poll()
                if code is not None:
                    log.close()
                    del self._running[slot]
                    return job, code
            if time.monotonic() >= end:
                return None
            time.sleep(LOOK)

    def stop(self) -> list[tuple[Job, int]]:
        """Ask all jobs to write a checkpoint and end; those that take too long are killed."""
        for _, process, _ in self._running.values():
            with suppress(OSError):
                process.terminate()
        ended: list[tuple[Job, int]] = []
        deadline = time.monotonic() + GRACE
        while self._running:
            if (one := self.wait(1.0)) is not None:
                ended.append(one)
            elif time.monotonic() > deadline:
                for _, process, _ in self._running.values():
                    process.kill()
        return ended


def _cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def last_lines(log: Path, most: int = 3) -> Sequence[str]:
    """Return the last lines of a job's output."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-most:]

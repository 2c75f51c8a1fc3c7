"""Data workers: waiting for them, and ending them for certain.

A worker ignores SIGTERM and Ctrl-C, so that a signal to the whole process group does not end the step that is to be
finished. So workers are ended by SIGKILL. multiprocessing alone would send SIGTERM at exit and then wait without a
limit: for ever, where a worker hangs in a read or on a full pipe.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import util
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

__all__ = [
    "PATIENCE",
    "PATIENCE_ANEW",
    "POLL",
    "StoppedWaitingError",
    "WorkersLostError",
    "end_with_parent",
    "free_shared_memory",
    "started",
    "wait_for",
]

log = logging.getLogger("ssl_wb")

#: Seconds after which a wait for a batch looks about: for dead workers, and for a signal.
POLL = 2.0
#: Seconds without a batch after which the wait is told, and again each time.
TOLD = 30.0
#: Seconds without a batch after which the workers are given up: a network file system may be away for minutes.
PATIENCE = 600.0
#: The same for the first batch of workers that were started anew: forked beside the threads of a running training, one
#: may hang from its start.
PATIENCE_ANEW = 60.0
#: Seconds between a worker's looks at whether the training process is still there.
LOOK = 1.0
#: Seconds that all workers together get to be gone after SIGKILL; one that waits for a dead disk may need longer.
ENDED = 5.0

T = TypeVar("T")


class StoppedWaitingError(Exception):
    """A signal asked the run to stop while it waited for data."""


class WorkersLostError(Exception):
    """Workers died or no longer deliver; the message says which."""


def free_shared_memory(folder: Path = Path("/dev/shm")) -> int | None:
    """Return the free bytes of the shared memory that workers send batches through; None where it is no file system."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def wait_for(
    loading: Iterator[T], workers: set[BaseProcess], stop: Callable[[], bool], patience: float = PATIENCE
) -> T:
    """Return the next batch of a DataLoader that has ``timeout=POLL``.

    Args:
        loading: the DataLoader's iterator.
        workers: its processes.
        stop: whether a signal asked to stop.
        patience: seconds without a batch after which the workers are given up.

    Raises:
        StopIteration: that was all.
        StoppedWaitingError: a signal came.
        WorkersLostError: a worker died, or none has delivered for a long time.
    """
    began = told = time.monotonic()
    while True:
        _check_alive(workers)
        try:
            return next(loading)
        except (ConnectionError, EOFError, FileNotFoundError) as error:
            if str(error).startswith("Caught"):  # an error within a worker, as torch raises it again
                raise
            # A worker died while its batch was fetched from it; how it ended is known a moment later.
            for _ in range(10):
                _check_alive(workers)
                time.sleep(0.1)
            raise WorkersLostError(f"the connection to a data worker broke ({type(error).__name__})") from error
        except RuntimeError as error:
            # torch's words; an error within a worker begins with "Caught", and is none of the wait.
            if not str(error).startswith(("DataLoader timed out", "DataLoader worker", "Too many open files")):
                raise
            _check_alive(workers)
            if not str(error).startswith("DataLoader timed out"):
                raise WorkersLostError(str(error).splitlines()[0]) from error
        if stop():
            raise StoppedWaitingError
        now = time.monotonic()
        if now - began > patience:
            raise WorkersLostError(f"no batch came for {now - began:.0f} seconds")
        if now - told > TOLD:
            told = now
            log.warning("waiting for audio since %.0f seconds; the data workers are alive", now - began)


def _check_alive(workers: set[BaseProcess]) -> None:
    for worker in workers:
        if worker.exitcode not in (None, 0):
            raise WorkersLostError(f"data worker {worker.pid} {_ending(worker.exitcode)}")


def _ending(code: int | None) -> str:
    """Say how a process ended."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    why = {"SIGKILL": " (often memory ran out)", "SIGBUS": " (often shared memory ran out)"}.get(name, "")
    return f"was ended by {name}{why}"


def started(make: Callable[[], T]) -> tuple[T, set[BaseProcess], Callable[[], None]]:
    """Start a DataLoader's workers by ``make``.

    torch's handler of SIGCHLD raises wherever the process is, in the middle of a step too: it is put back, and the wait
    looks for dead workers itself.

    Returns:
        What ``make`` returned, the workers, and a function that ends them for certain. It is called when this process
        exits, if it was not called before.
    """
    before = set(multiprocessing.active_children())
    handler = signal.getsignal(signal.SIGCHLD) if hasattr(signal, "SIGCHLD") else None
    try:
        made = make()
    except BaseException:  # a signal in between: some of the workers may run already
        _end(set(multiprocessing.active_children()) - before)
        raise
    workers = set(multiprocessing.active_children()) - before
    with suppress(ValueError, AttributeError):  # not in the main thread, where torch sets none; not on Windows
        signal.signal(signal.SIGCHLD, handler if handler is not None else signal.SIG_DFL)
    # At exit multiprocessing calls these before it waits for its children; only in the process that made them.
    return made, workers, util.Finalize(None, _end, (workers,), exitpriority=10)


def _end(workers: set[BaseProcess]) -> None:
    """End workers by SIGKILL, which they cannot ignore; what they load can be loaded again."""
    for worker in workers:
        worker.kill()
    until = time.monotonic() + ENDED
    for worker in workers:
        worker.join(max(0.0, until - time.monotonic()))


def end_with_parent() -> None:
    """Let this worker end within seconds after its training process is gone, whatever it does then.

    torch's workers look between two batches, and never while they hang. What they keep open, such as stderr, would let
    the caller of a killed run wait.
    """
    parent = multiprocessing.parent_process()
    if parent is None or os.name == "nt":  # on Windows the number of the parent does not change
        return

    def watch() -> None:
        while os.getppid() == parent.pid:
            time.sleep(LOOK)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()

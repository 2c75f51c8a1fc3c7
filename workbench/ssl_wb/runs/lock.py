"""The lock of a run folder: which process writes it, and whether that process is still alive."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from ssl_wb.errors import RunFolderError

__all__ = ["RunLock", "find_owner"]

log = logging.getLogger("ssl_wb")

#: Seconds between heartbeats.
BEAT = 15.0
#: A process of another host is taken for dead after so many seconds without a heartbeat: several are missed only when
#: it is gone, or its file system is.
SILENCE = 120.0


@dataclass(frozen=True)
class Owner:
    """The process that writes a run folder.

    Attributes:
        host: name of its machine.
        process: its number there.
        started: when it was started (seconds since 1970); a later process may get the same number.
        token: random, of this lock alone.
    """

    host: str
    process: int
    started: float
    token: str

    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    def is_running(self) -> bool:
        """Whether it runs on this machine."""
        try:
            process = psutil.Process(self.process)
            same = abs(process.create_time() - self.started) < 2.0  # computed from the boot time, which is rounded
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.AccessDenied:
            return True
        except psutil.Error:
            return False


class RunLock:
    """A file that names the writer of a run folder and whose time of change is the writer's heartbeat.

    Args:
        path: the file; its folder must be there when the lock is taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._owner: Owner | None = None
        self._stop = threading.Event()

    def check(self) -> None:
        """Refuse a folder that another process writes.

        Raises:
            RunFolderError: one does.
        """
        owner = find_owner(self.path)
        if owner is not None and owner != self._owner:
            raise _taken(self.path, owner)

    def wait(self) -> None:
        """Wait for the lock of a process on another host until that is known to be alive or gone.

        A job that is started again on another machine comes seconds after the first one was lost.
        """
        owner, age = find_owner(self.path), _age(self.path)
        if owner is None or owner.is_here():
            return
        log.info("%s: waiting to see whether the run on %s is still alive", self.path.parent, owner.host)
        while age is not None and find_owner(self.path) == owner:
            time.sleep(BEAT / 3)
            before, age = age, _age(self.path)
            if age is not None and age < before:  # a heartbeat
                return

    def take(self) -> None:
        """Take the lock, also one whose process is gone, and keep it until :meth:`release`.

        Raises:
            RunFolderError: another process has it.
        """
        if self._owner is not None:
            return
        process = psutil.Process()
        owner = Owner(socket.gethostname(), process.pid, process.create_time(), secrets.token_hex(8))
        for _ in range(3):  # a stale lock is put aside, and a third process may be quicker
            try:
                handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self.check()
                log.warning("%s: the process that wrote this run is gone; going on in its place", self.path.parent)
                _put_aside(self.path)
                continue
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(owner), file)
            self._owner = owner
            self._stop.clear()
            threading.Thread(target=self._beat, args=(owner,), name="run-lock", daemon=True).start()
            return
        raise RunFolderError(
            f"{self.path.parent}: another process is taking this run folder at the same moment",
            hint="Start one of them only.",
        )

    def release(self) -> None:
        """Remove the lock, if it is still this one."""
        owner, self._owner = self._owner, None
        self._stop.set()
        if owner is not None and _read(self.path) == owner:
            with suppress(OSError):
                self.path.unlink()

    def _beat(self, owner: Owner) -> None:
        """Show that the writer is alive, until the lock is released, lost or removed."""
        while not self._stop.wait(BEAT):
            if _read(self.path) != owner:
                return
            with suppress(OSError):  # a file system that is away for a while
                os.utime(self.path)


def find_owner(path: Path) -> Owner | None:
    """Return the process that holds a lock; None where there is none, or it is gone.

    Args:
        path: the lock's file.
    """
    owner = _read(path)
    if owner is None:
        # A process that was killed between making and filling the file leaves it empty. One that is filling it now has
        # done so before the file is a second old.
        if _age(path) is not None and (_age(path) or 0.0) < 1.0:
            time.sleep(1.0)
            owner = _read(path)
        if owner is None:
            return None
    if owner.is_here():
        return owner if owner.is_running() else None
    age = _age(path)
    return owner if age is not None and age < SILENCE else None


def _read(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _age(path: Path) -> float | None:
    """Return the seconds since a file changed, by the clock of its file system; None where it is not there.

    The clocks of two hosts may differ by minutes, and the file system's own stamps both files.
    """
    probe = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        changed = path.stat().st_mtime
        try:
            probe.touch()
            return probe.stat().st_mtime - changed
        except OSError:  # a folder that may only be read
            return time.time() - changed
        finally:
            with suppress(OSError):
                probe.unlink()
    except OSError:
        return None


def _put_aside(path: Path) -> None:
    """Remove a stale lock; one that another process took in between is put back."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with suppress(OSError):
        path.rename(aside)
        if find_owner(aside) is not None:
            with suppress(OSError):  # a third lock is there already
                os.link(aside, path)
        aside.unlink()


def _taken(path: Path, owner: Owner) -> RunFolderError:
    where = "" if owner.is_here() else f" on {owner.host}"
    seen = time.strftime("%Y-%m-%d %H:%M", time.localtime(owner.started))
    stop = f"stop it with: kill {owner.process}" if owner.is_here() else f"stop it on {owner.host}"
    hint = f"Wait until it has ended, or {stop}; --out names another folder."
    if not owner.is_here():
        hint += f" If it is gone already, try again in {SILENCE:.0f} seconds."
    return RunFolderError(
        f"{path.parent}: a run is being written here by process {owner.process}{where}, started {seen}", hint=hint
    )

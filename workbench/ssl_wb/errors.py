"""Errors that a user can act on, and the exit codes they end with.

Every expected failure derives from :class:`WorkbenchError`: the command line prints its message and hint and exits with
its code. Any other exception is a bug in the workbench and exits with code 1.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from enum import IntEnum

__all__ = [
    "AudioError",
    "DataError",
    "DivergedError",
    "ExitCode",
    "InterruptedRunError",
    "PluginError",
    "RecipeError",
    "RunFolderError",
    "UsageError",
    "WorkbenchError",
    "did_you_mean",
    "itemise",
    "machine_fault",
    "nearest",
]


class ExitCode(IntEnum):
    """Exit codes of the process."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    RECIPE = 3
    PLUGIN = 4
    DIVERGED = 5
    RESUMABLE = 75
    INTERRUPTED = 130


class WorkbenchError(Exception):
    """An expected failure: ``message`` says what happened and where, ``hint`` what to do."""

    exit_code: ExitCode = ExitCode.UNEXPECTED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(WorkbenchError):
    """The command line asks for something impossible."""

    exit_code = ExitCode.USAGE


class RunFolderError(UsageError):
    """A run folder already exists, is absent, or is no run folder."""


class AudioError(UsageError):
    """A file cannot be read as audio."""


class DataError(UsageError):
    """A folder, manifest or task is absent or wrong."""


class RecipeError(WorkbenchError):
    """A recipe has one or more mistakes; ``problems`` holds one message for each."""

    exit_code = ExitCode.RECIPE

    def __init__(self, problems: Sequence[str], *, where: str = "recipe", hint: str = "") -> None:
        self.problems = list(problems)
        count = len(self.problems)
        head = f"{where}: {count} mistake{'' if count == 1 else 's'}"
        super().__init__(itemise(head, self.problems, count), hint=hint)


class PluginError(WorkbenchError):
    """A plugin is missing, broken, blocked or too new, or two have one name."""

    exit_code = ExitCode.PLUGIN


class DivergedError(WorkbenchError):
    """Training produced a loss or gradient that is not finite."""

    exit_code = ExitCode.DIVERGED


class InterruptedRunError(WorkbenchError):
    """The run was stopped, wrote a checkpoint and can be resumed."""

    exit_code = ExitCode.RESUMABLE


#: What the machine did, and what helps, by the number of an OSError.
_FAULTS = {
    errno.ENOSPC: ("the disk is full", "Free space"),
    errno.EDQUOT: ("the disk quota is used up", "Free space"),
    errno.EFBIG: ("a file is larger than the system allows", "Raise the limit (`ulimit -f`)"),
    errno.EROFS: ("the file system is read-only", "Name a place that can be written, such as --out"),
    errno.EACCES: ("permission is denied", "Name a place that you may write, such as --out, or change its permissions"),
    errno.EPERM: ("the system does not permit it", "Name a place that you may write, such as --out"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "Name another place, such as --out"),
    errno.EMFILE: ("too many files are open", "Raise the limit (`ulimit -n 4096`), or set data.workers lower"),
    errno.EIO: ("the disk reports an error", "Check the disk, or whether the network file system is still there"),
    errno.ENOMEM: ("memory ran out", "Lower train.batch_size or data.workers"),
}
#: Words of libraries that raise errors of their own for the same.
_WORDS = {
    "No space left on device": errno.ENOSPC,
    "File too large": errno.EFBIG,
    "can't allocate memory": errno.ENOMEM,
    "CUDA out of memory": errno.ENOMEM,
    "Too many open files": errno.EMFILE,
    "Read-only file system": errno.EROFS,
}


def machine_fault(error: BaseException) -> WorkbenchError | None:
    """Describe an error that the machine caused and not ssl-wb; None for any other, and for one described already.

    Args:
        error: what was raised.
    """
    if isinstance(error, WorkbenchError):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    for words, meant in _WORDS.items():
        if number is None and words in str(error):
            number = meant
    if number not in _FAULTS:
        return None
    what, help_ = _FAULTS[number]
    where = getattr(error, "filename", None)
    return WorkbenchError(
        f"{where}: {what}" if where else f"{what} ({' '.join(str(error).split())[:200] or type(error).__name__})",
        hint=f"{help_}, then run the command again; a run goes on with --resume.",
    )


#: Least similarity of a suggestion: twice the common characters over all characters. Below it, suggestions confuse.
_CUTOFF = 0.6


def _plain(word: str) -> str:
    """Return ``word`` without what people confuse: case, and ``_`` for ``-``."""
    return word.casefold().replace("_", "-").strip()


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice most similar to ``word``, or None when none is similar.

    Case and the difference between ``-`` and ``_`` are ignored. A choice that starts with ``word`` is similar if
    ``word`` has three characters or more; of equally similar choices the first in alphabetical order is returned.

    Args:
        word: what the user wrote.
        choices: the words that exist.
    """
    plain = _plain(word)
    if not plain:
        return None
    best, best_score = None, 0.0
    for choice in sorted(set(choices)):
        score = SequenceMatcher(None, plain, _plain(choice), autojunk=False).ratio()
        if len(plain) >= 3 and _plain(choice).startswith(plain):
            score = max(score, _CUTOFF)
        if score >= _CUTOFF and score > best_score:
            best, best_score = choice, score
    return best


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"``, or nothing when no choice is similar to ``word``."""
    close = nearest(word, choices)
    return f"; did you mean {close!r}?" if close else ""


def itemise(head: str, items: Sequence[str], most: int = 10) -> str:
    """Return a message with a line for each item; those beyond ``most`` are only counted."""
    lines = [head, *(f"  - {item}" for item in items[:most])]
    if len(items) > most:
        lines.append(f"  - and {len(items) - most} more")
    return "\n".join(lines)

"""Errors that a user can act on, and the exit codes they end with.

Every expected failure derives from :class:`WorkbenchError`: the command line prints its message and hint and leaves
with its code. Anything else is a defect of the workbench and ends with code 1.
"""

from __future__ import annotations

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
    "nearest",
]


class ExitCode(IntEnum):
    """What the process says to the shell when it leaves."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    RECIPE = 3
    PLUGIN = 4
    DIVERGED = 5
    RESUMABLE = 75
    INTERRUPTED = 130


class WorkbenchError(Exception):
    """An expected failure: what happened and where, and in ``hint`` what to do about it."""

    exit_code: ExitCode = ExitCode.UNEXPECTED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(WorkbenchError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class RunFolderError(UsageError):
    """A run folder is not what the command needs: taken, absent or of another kind."""


class AudioError(UsageError):
    """A file cannot be read as audio."""


class DataError(UsageError):
    """A folder, manifest or task is not what the command needs."""


class RecipeError(WorkbenchError):
    """A recipe has one or more mistakes; ``problems`` holds one message for each."""

    exit_code = ExitCode.RECIPE

    def __init__(self, problems: Sequence[str], *, where: str = "recipe", hint: str = "") -> None:
        self.problems = list(problems)
        count = len(self.problems)
        head = f"{where}: {count} mistake{'' if count == 1 else 's'}"
        super().__init__(itemise(head, self.problems, count), hint=hint)


class PluginError(WorkbenchError):
    """A plugin is missing, broken, blocked or too new, or two offer one name."""

    exit_code = ExitCode.PLUGIN


class DivergedError(WorkbenchError):
    """Training produced a loss or gradient that is not finite."""

    exit_code = ExitCode.DIVERGED


class InterruptedRunError(WorkbenchError):
    """The run was asked to stop, wrote a checkpoint and can be resumed."""

    exit_code = ExitCode.RESUMABLE


#: Least similarity (twice the characters in common over all characters) at which a guess helps, not puzzles.
_CUTOFF = 0.6


def _plain(word: str) -> str:
    """Return ``word`` as people confuse it: without case, with one kind of dash."""
    return word.casefold().replace("_", "-").strip()


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice most like ``word``, or None when none is close.

    Case and the difference of ``-`` and ``_`` do not count. A choice that begins with ``word`` is close from
    three characters on; of equally close choices the first in alphabetical order is returned.

    Args:
        word: what was written.
        choices: what could have been meant.
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
    """Return ``"; did you mean 'x'?"``, or nothing when no choice is close to ``word``."""
    close = nearest(word, choices)
    return f"; did you mean {close!r}?" if close else ""


def itemise(head: str, items: Sequence[str], most: int = 10) -> str:
    """Return a message with a line for each item; those beyond ``most`` are only counted."""
    lines = [head, *(f"  - {item}" for item in items[:most])]
    if len(items) > most:
        lines.append(f"  - and {len(items) - most} more")
    return "\n".join(lines)

"""Progress of long commands where stderr is no terminal: a plain line now and then."""

from __future__ import annotations

import time

import typer

__all__ = ["ProgressLines"]

#: Seconds before the first line and between two lines.
EVERY = 10.0


class ProgressLines:
    """Writes ``WHAT: DONE of TOTAL, about N s left`` on stderr at most every ten seconds.

    Args:
        shown: whether to write at all; a terminal has a progress bar instead.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._said = time.monotonic()
        self._what, self._begin, self._first = "", self._said, 0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take news of a step.

        Args:
            what: the step; another text is another step, whose time is counted anew.
            done: clips done.
            total: all clips.
        """
        now = time.monotonic()
        if what != self._what:
            self._what, self._begin, self._first = what, now, done
        if not self._shown or now - self._said < EVERY:
            return
        self._said = now
        steps = done - self._first
        left = (
            f", about {(now - self._begin) / steps * (total - done):.0f} s left" if steps > 0 and done < total else ""
        )
        typer.echo(f"{what}: {done} of {total} clips{left}", err=True)

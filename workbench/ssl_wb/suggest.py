"""Did you mean: the nearest right word to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

__all__ = ["did_you_mean", "nearest"]

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

"""Work started ahead of its use, as decoding in threads, by a bounded number of items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["started_ahead"]

Item = TypeVar("Item")
Started = TypeVar("Started")


def started_ahead(items: Iterable[Item], start: Callable[[Item], Started], most: int) -> Iterator[Started]:
    """Start items one after the other and yield what was started, in order.

    Args:
        items: read as they are started.
        start: as a rule submits the item to a pool and returns its future.
        most: items that are started before the first of them is yielded.
    """
    waiting: deque[Started] = deque()
    for item in items:
        waiting.append(start(item))
        if len(waiting) > most:
            yield waiting.popleft()
    while waiting:
        yield waiting.popleft()

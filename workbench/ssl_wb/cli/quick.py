"""What makes a short command short."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_collector"]


@contextmanager
def without_collector() -> Iterator[None]:
    """Leave reference cycles where they are: for commands that import much, answer and end.

    Importing torch makes millions of objects that stay, and Python's collector walks over them again and again: a tenth
    of the whole command.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()

"""Operations on the meta device without the import of torch's compiler."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["uncompiled"]

_NAME = "torch._dynamo"
#: Where torch keeps a function's marked form, so that it asks the compiler for it once.
_KEPT = "__dynamo_disable"


class _Unimported(ModuleType):
    """In place of ``torch._dynamo``: marks functions by itself, and is replaced by the real one for all else.

    Attributes:
        marked: functions that got the mark, which is none: where nothing is compiled there is nothing to keep out.
    """

    def __init__(self) -> None:
        super().__init__(_NAME)
        self.marked: list[Callable[..., Any]] = []

    def disable(
        self, fn: Callable[..., Any] | None = None, recursive: bool = True, *, wrapping: bool = True, **more: Any
    ) -> Any:
        """Keep ``fn`` as it is; ask the compiler itself where torch asks in another way, or this is withdrawn."""
        if fn is None or wrapping or more or sys.modules.get(_NAME) is not self:
            return self.__getattr__("disable")(fn, recursive, wrapping=wrapping, **more)
        self.marked.append(fn)
        return fn

    def __getattr__(self, attribute: str) -> Any:
        # importlib asks a package for `__path__` before it imports a part of it, so parts come from the real one too.
        self.withdraw()
        return getattr(importlib.import_module(_NAME), attribute)

    def withdraw(self) -> None:
        """Make room for the real module, and let torch ask it for the mark of every function."""
        if sys.modules.get(_NAME) is self:
            del sys.modules[_NAME]
        while self.marked:
            vars(self.marked.pop()).pop(_KEPT, None)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Leave ``torch._dynamo`` unimported, unless something asks for more of it than a mark, or has imported it before.

    torch answers most operations on meta tensors, random initialisation first of all, in Python, by functions marked
    "not to be compiled". The mark is the compiler's, and to set the first one torch imports all of it (with sympy, and
    parts of inductor and FSDP): more than a second, which nobody who only asks for shapes has a use for. Values and
    shapes are the same with and without. The stand-in is seen by the whole process: enter this on one thread only.
    """
    if _NAME in sys.modules:
        yield
        return
    stand_in = _Unimported()
    sys.modules[_NAME] = stand_in
    try:
        yield
    finally:
        stand_in.withdraw()

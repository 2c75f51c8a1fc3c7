"""Importing a module or a Python file that the user names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from ssl_wb.errors import UsageError, WorkbenchError

__all__ = ["call_external", "failure", "find_module", "import_module"]


def find_module(name: str, source: str) -> None:
    """Look for a module without running it.

    Args:
        name: a module (the working folder is searched too), or a file that ends in ``.py``.
        source: the encoder that needs it, for messages.

    Raises:
        UsageError: there is none.
    """
    if name.endswith(".py"):
        if not Path(name).expanduser().is_file():
            raise UsageError(f"{source}: no such file: {name!r}", hint="Check the path.")
        return
    _search(Path.cwd())
    parent = name.partition(".")[0]  # of "a.b.c", find_spec would import a and a.b
    try:
        found = importlib.util.find_spec(parent)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise UsageError(
            f"{source}: there is no module {parent!r}",
            hint="Install it into this environment, or call from the folder that holds it.",
        )


def import_module(name: str, source: str) -> ModuleType:
    """Import a module by its name, or a Python file.

    Args:
        name: a module (the working folder is searched too), or a file that ends in ``.py``, whose folder is searched
            for its own imports.
        source: the encoder that needs it, for messages.

    Raises:
        UsageError: there is none, or importing it fails.
    """
    find_module(name, source)
    module: ModuleType = call_external(
        source,
        f"importing {name!r}",
        lambda: (
            _from_file(Path(name).expanduser().resolve()) if name.endswith(".py") else importlib.import_module(name)
        ),
        hint="Install what it needs, or fix it: `python -c 'import ...'` shows where it fails.",
    )
    return module


def _from_file(path: Path) -> ModuleType:
    # In sys.modules under a unique name: two files may share a name, and dataclasses look their module up there.
    name = f"_ssl_wb_{path.stem}_{hashlib.sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _search(path.parent)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _search(folder: Path) -> None:
    """Add a folder to the module search path, after all other places."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def call_external(
    source: str, what: str, call: Callable[[], Any], hint: str, kind: type[WorkbenchError] = UsageError
) -> Any:
    """Run external code; turn any exception into one message.

    Args:
        source: the encoder, for the message.
        what: name of the call for the message.
        call: makes the call.
        hint: what to do.
        kind: class of the error.

    Raises:
        WorkbenchError: the call fails, or itself raises one.
    """
    try:
        with redirect_stdout(sys.stderr):  # stdout is for results: what external code prints must not enter --json
            return call()
    except WorkbenchError:
        raise
    except (Exception, SystemExit) as error:  # external code may raise anything
        raise kind(f"{source}: {what} fails: {failure(error)}", hint=hint) from error


def failure(error: BaseException) -> str:
    """Write an exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__

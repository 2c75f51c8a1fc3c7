"""Whose fault an unexpected error is: the machine's, a plugin's, or the workbench's."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path

from ssl_wb.errors import ExitCode, PluginError, WorkbenchError, machine_fault
from ssl_wb.plugin.discovery import PluginRecord, canonical
from ssl_wb.plugin.registry import loaded_registry

__all__ = ["described", "plugin_fault"]


def described(error: Exception) -> Exception:
    """Return an error that says what the machine or a plugin did; ``error`` itself where neither is the cause.

    Args:
        error: what was raised.
    """
    return machine_fault(error) or plugin_fault(error) or error


def plugin_fault(error: Exception) -> WorkbenchError | None:
    """Describe an unexpected error that was raised within a plugin; None for others, and for one described already.

    The plugin is the innermost one of the traceback: a library that it called may have raised the error.

    Args:
        error: what was raised.

    Returns:
        A :class:`PluginError`; for a bundled plugin an error with the exit code of the workbench's own defects.
    """
    registry = loaded_registry()
    if isinstance(error, WorkbenchError) or registry is None:
        return None
    frames = list(traceback.walk_tb(error.__traceback__))
    for frame, line in reversed(frames):
        record = _owner(registry.records, frame.f_code.co_filename, frame.f_locals.get("self"))
        if record is None:
            continue
        text = " ".join(str(error).split()) or "no message"
        message = (
            f"{record.kind} {record.name!r} of {record.distribution} {record.version} failed at "
            f"{Path(frame.f_code.co_filename).name}:{line}: {type(error).__name__}: {text}"
        )
        if canonical(record.distribution) == "ssl-wb":
            found = WorkbenchError(f"unexpected error: {message}", hint="rerun with --debug for the traceback")
            found.exit_code = ExitCode.UNEXPECTED
            return found
        return PluginError(
            message,
            hint=f"This is a defect of that plugin: tell its author (--debug shows the traceback), or choose another "
            f"{record.kind}.",
        )
    return None


def _owner(records: tuple[PluginRecord, ...], file: str, itself: object) -> PluginRecord | None:
    """Return the plugin that code of a file belongs to; of several in one file that of the object, else the first."""
    found = {record.plugin: record for record in records if record.plugin is not None and _file(record.plugin) == file}
    named = [found[kind] for kind in type(itself).__mro__ if kind in found]
    return next(iter([*named, *found.values()]), None)


def _file(kind: type) -> str | None:
    """Return the file of a class as its code objects name it."""
    try:
        return inspect.getsourcefile(kind)
    except TypeError:  # typed at a prompt
        return None

"""The page of every command, from the functions behind them."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from reference_keys import as_markdown, escape
from typer.models import ArgumentInfo, OptionInfo

__all__ = ["commands"]


def commands(app: typer.Typer, note: str) -> str:
    """Return the help of every command of an application."""
    parts = [
        f"# Commands\n\n{note}\n"
        "Data goes to stdout (`--json` wherever something is listed), progress and logs to stderr. Exit codes: 0 done, "
        "1 unexpected, 2 usage, 3 recipe, 4 plugin, 5 training cannot go on, 75 stopped and resumable, 130 "
        "interrupted. Options before the command: `ssl-wb --debug COMMAND` shows the traceback of a failure, `ssl-wb "
        "--version` prints the version.\n"
    ]
    found: list[tuple[str, int, Any]] = []
    for command in app.registered_commands:
        found.append((f"ssl-wb {command.name}", 2, command))
    for group in app.registered_groups:
        inner = group.typer_instance
        found.append((f"ssl-wb {group.name}", 2, inner))
        found += [(f"ssl-wb {group.name} {one.name}", 3, one) for one in inner.registered_commands]
    for path, level, command in sorted(found, key=lambda one: one[0]):
        if isinstance(command, typer.Typer):
            parts.append(f"{'#' * level} {path}\n\n{as_markdown(str(command.info.help or ''))}\n")
        else:
            parts.append(command_text(path, level, command.callback, command.help))
    return "\n".join(parts)


def command_text(path: str, level: int, function: Callable[..., Any], text: str | None) -> str:
    """Return heading, help and parameters of a command."""
    hints = get_type_hints(function, include_extras=True)
    words, rows, options = [], [], []
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        if get_origin(hint) is not Annotated:
            continue
        inner, info = get_args(hint)[:2]
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            word = (info.metavar or name).upper()
            words.append(word + ("..." if get_origin(inner) is list else ""))
            rows.append(f"| `{word}` | {escape(info.help or '')} |")
        elif isinstance(info, OptionInfo) and not info.hidden:
            # In `Annotated`, typer takes the first name for the default until it reads the parameter.
            given = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str)]
            names = ", ".join(given or [f"--{name.replace('_', '-')}"]).replace("/", ", ")
            value = "" if inner is bool else f" {info.metavar or value_of(inner, name)}"
            shown = isinstance(parameter.default, str | int | float) and not isinstance(parameter.default, bool)
            default = f" Default: `{parameter.default}`." if shown and parameter.default != "" else ""
            needed = " Required." if required else ""
            options.append(f"| `{escape(names + value)}` | {escape((info.help or '') + needed + default)} |")
    described = re.sub(r"(?<!\n)\n(?!\n)", " ", (text or inspect.getdoc(function) or "").strip())
    table = ["| argument or option | meaning |", "| --- | --- |", *rows, *options, ""] if rows or options else []
    head = f"{'#' * level} {path}\n\n`{' '.join([path, *words])}`\n\n{as_markdown(described)}\n"
    return "\n".join([head, *table])


def value_of(hint: Any, name: str) -> str:
    """Name what an option takes: its choices, or a word for its type."""
    parts = (
        [one for one in get_args(hint) if one is not type(None)] if get_origin(hint) in (Union, UnionType) else [hint]
    )
    inner = get_args(parts[0])[0] if get_origin(parts[0]) is list else parts[0]
    if get_origin(inner) is Literal:
        return "/".join(get_args(inner))
    if isinstance(inner, type) and issubclass(inner, enum.Enum):
        return "/".join(str(one.value) for one in inner)
    return {int: "N", float: "X", Path: "PATH"}.get(inner, name.upper().replace("_", "-"))

"""The values of a recipe while it is put together, each with its origin: a line of a file, or a ``--set``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from ssl_wb.plugin.kinds import SECTIONS, spec_of

__all__ = [
    "LENGTH_KEYS",
    "LIST_SECTIONS",
    "NAMED_LISTS",
    "Location",
    "Origin",
    "Tree",
    "item_names",
    "key_lines",
    "shown_path",
]

#: Keys and list indices from the top of a recipe to a value.
Location = tuple[str | int, ...]


def shown_path(path: Path) -> str:
    """Return ``path`` as a reader would type it: relative to the working directory where it lies below it."""
    try:
        return os.fspath(path.relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)


@dataclass(frozen=True)
class Origin:
    """Who wrote a value: a line of a file, or an override as typed; ``said`` names an override's place in a sweep."""

    file: Path | None = None
    line: int | None = None
    override: str | None = None
    said: str = ""

    def __str__(self) -> str:
        if self.said:
            return self.said
        if self.override is not None:
            return f"--set {self.override}"
        place = shown_path(self.file) if self.file else "recipe"
        return place if self.line is None else f"{place}:{self.line}"


# Strings and comments first, so that the punctuation in them is not taken for TOML's own.
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\])*"'
    r"|'[^']*'"
    r"|#[^\n]*"
    r"|[\n\[\]{}=,.]"
    r"|[^\s\[\]{}=,.\"'#]+",
    re.DOTALL,
)


def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the tokens of every key/value pair and table header."""
    tokens: list[str] = []
    line = first = 1
    depth = end = 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", end, match.start())
        end = match.start()
        token = match.group()
        if token == "\n" and depth == 0:
            if tokens:
                yield first, tokens
            tokens = []
        elif token != "\n" and not token.startswith("#"):
            if not tokens:
                first = line
            tokens.append(token)
            depth += (token in "[{") - (token in "]}")
    if tokens:
        yield first, tokens


def _names(tokens: list[str]) -> list[str]:
    """Return the parts of a dotted key, quotes removed."""
    return [tomli.loads(f"x = {token}")["x"] if token[0] in "\"'" else token for token in tokens if token != "."]


def key_lines(text: str) -> dict[Location, int]:
    """Find the line, from 1, on which each key and table of a TOML document is written.

    tomli gives values without places. Keys inside inline tables are left out: they stand on their parent's
    line, or close below it.

    Args:
        text: a document that tomli has read without error.
    """
    lines: dict[Location, int] = {}
    items: dict[Location, int] = {}  # arrays of tables and how many of them have been opened
    table: Location = ()

    def place(start: Location, names: list[str], line: int, *, opens_item: bool = False) -> Location:
        here = start
        for depth, name in enumerate(names):
            here = (*here, name)
            lines.setdefault(here, line)
            last = depth == len(names) - 1
            if last and opens_item:
                items[here] = items.get(here, 0) + 1
            if here in items:
                here = (*here, items[here] - 1)
                lines.setdefault(here, line)
        return here

    for line, tokens in _statements(text):
        if tokens[0] == "[":
            double = tokens[1] == "["
            inside = tokens[2:-2] if double else tokens[1:-1]
            table = place((), _names(inside), line, opens_item=double)
        else:
            place(table, _names(tokens[: tokens.index("=")]), line)
    return lines


#: Keys of ``[train]`` that say how long; one of them at a time.
LENGTH_KEYS = ("steps", "epochs", "samples")

#: Sections that are lists of plugins.
LIST_SECTIONS = tuple(str(at[0]) for at, spec in SECTIONS.items() if spec.listed and len(at) == 1)

#: Places of all lists of tables with a ``name``, by which their items are addressed.
NAMED_LISTS: tuple[Location, ...] = tuple(at for at, spec in SECTIONS.items() if spec.listed)


def item_names(items: Sequence[Any]) -> list[str | None]:
    """Return the ``name`` of each table in a list; None where it is missing or no text."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    return [name if isinstance(name, str) else None for name in names]


class Tree:
    """Nested TOML values, merged layer by layer, with who wrote what.

    Attributes:
        data: the values.
    """

    def __init__(self, file: Path) -> None:
        self.data: dict[str, Any] = {}
        self._origins: dict[Location, Origin] = {(): Origin(file=file)}

    def origin(self, at: Location) -> Origin:
        """Return who wrote the value at ``at``, or the nearest table around it."""
        while at not in self._origins:
            at = at[:-1]
        return self._origins[at]

    def value(self, at: Location) -> Any:
        """Return the value at ``at``; None where nothing is written."""
        node: Any = self.data
        for key in at:
            try:
                node = node[key]
            except (KeyError, IndexError, TypeError):
                return None
        return node

    def put(self, at: Location, value: Any, origin: Callable[[Location], Origin]) -> None:
        """Write ``value`` at ``at``, merging a table into a table there.

        Args:
            at: place of the value; the table or list around it exists.
            value: TOML value. Lists replace, whole.
            origin: gives the origin of each key written.
        """
        if isinstance(value, dict) and isinstance(self.value(at), dict):
            self.overlay(at, value, origin)
            return
        if at in self._origins:
            self._forget(at)
        self.value(at[:-1])[at[-1]] = deepcopy(value)
        self._record(at, value, origin)

    def overlay(self, at: Location, values: Mapping[str, Any], origin: Callable[[Location], Origin]) -> None:
        """Merge the table ``values`` into the table at ``at``, key by key.

        A new ``name`` drops the options of the former plugin, and one length of ``[train]`` drops the others.
        What an override gave stays, so that the order of ``--set`` does not matter.
        """
        table: dict[str, Any] = self.value(at)
        for key in self._outdated(at, table, values):
            if self.origin((*at, key)).override is None:
                del table[key]
                self._forget((*at, key))
        for key, value in values.items():
            self.put((*at, key), value, origin)

    def _outdated(self, at: Location, table: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
        """Return the keys of ``table`` that ``values`` make meaningless."""
        spec = spec_of(at)
        if spec is not None and "name" in values:
            former = table.get("name", spec.default)
            if former is not None and former != values["name"]:
                return [key for key in table if key not in spec.own_keys | spec.shared_options]
        if at == ("train",) and any(key in values for key in LENGTH_KEYS):
            return [key for key in table if key in LENGTH_KEYS and key not in values]
        return []

    def _forget(self, at: Location) -> None:
        self._origins = {key: value for key, value in self._origins.items() if key[: len(at)] != at}

    def _record(self, at: Location, value: Any, origin: Callable[[Location], Origin]) -> None:
        self._origins[at] = origin(at)
        children: Any = ()
        if isinstance(value, dict):
            children = value.items()
        elif isinstance(value, list):
            children = enumerate(value)
        for key, item in children:
            self._record((*at, key), item, origin)

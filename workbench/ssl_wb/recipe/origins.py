"""Where a value of a recipe was written: file and line, or the ``--set`` that gave it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tomli

__all__ = ["Location", "Origin", "key_lines", "shown_path"]

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
    """Who wrote a value: a line of a file, or an override as typed."""

    file: Path | None = None
    line: int | None = None
    override: str | None = None

    def __str__(self) -> str:
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

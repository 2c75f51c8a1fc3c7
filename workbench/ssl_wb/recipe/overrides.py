"""What the command line changes of a recipe: ``--set key.path=value``, and maskers as ``sgim:layer=3,start=0``."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from ssl_wb.errors import did_you_mean
from ssl_wb.recipe.files import absolute_paths
from ssl_wb.recipe.problems import Problem
from ssl_wb.recipe.tree import NAMED_LISTS, Location, Origin, Tree, item_names

__all__ = [
    "MaskerArgument",
    "Override",
    "apply_override",
    "inline_toml",
    "make_override",
    "parse_maskers",
    "parse_override",
    "parse_value",
]

_PART = r"""(?:"[^"]*"|'[^']*'|[^.="'\s]+)"""
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ASSIGNMENT = re.compile(rf"\s*({_PART}(?:\.{_PART})*)\s*=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Override:
    """One ``--set``.

    Attributes:
        text: as typed.
        keys: the key path; list items by index or name.
        value: the value.
        said: where it is written, if not on the command line.
    """

    text: str
    keys: tuple[str, ...]
    value: Any
    said: str = ""

    @property
    def origin(self) -> Origin:
        """This override as the origin of what it sets."""
        return Origin(override=self.text, said=self.said)


def make_override(keys: tuple[str, ...], value: Any, said: str) -> Override:
    """Return an override as ``--set`` would take it.

    Args:
        keys: the key path.
        value: a TOML value.
        said: where it is written, for messages.
    """
    path = ".".join(key if _BARE.fullmatch(key) else f'"{key}"' for key in keys)
    return Override(f"{path}={inline_toml(value)}", keys, value, said)


def inline_toml(value: Any) -> str:
    """Write a TOML value on one line, tables as ``{key = value}``."""
    if isinstance(value, dict):
        parts = [
            f"{key if _BARE.fullmatch(key) else json.dumps(key)} = {inline_toml(one)}" for key, one in value.items()
        ]
        return f"{{{', '.join(parts)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(inline_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # a JSON string is a TOML string
    return str(value)  # numbers, inf and nan; dates, which the recipe refuses


class _AddressError(Exception):
    """A key path that does not exist in the recipe."""


def parse_value(text: str) -> Any:
    """Read a TOML value; what is none is text, as in ``masker.name=random``."""
    try:
        document = tomli.loads(f"value = {text}")
    except tomli.TOMLDecodeError:
        return text.strip()
    return document["value"] if len(document) == 1 else text.strip()  # a line break in it began another key


def parse_override(text: str) -> Override | Problem:
    """Read ``key.path=value``.

    Args:
        text: keys separated by dots, in quotes where they hold dots; behind the first ``=`` a TOML value, or
            bare words, which are text.

    Returns:
        The override, or what is wrong with it.
    """
    match = _ASSIGNMENT.fullmatch(text)
    if match is None:
        fault = "expected key.path=value, as in train.steps=100"
        return Problem(Origin(override=text), (), fault, "override")
    keys = tuple(part.strip("\"'") for part in re.findall(_PART, match.group(1)))
    if keys[0] == "extends":
        fault = "cannot be set; write it into a recipe file"
        return Problem(Origin(override=text), ("extends",), fault, "override")
    return Override(text, keys, parse_value(match.group(2)))


def apply_override(tree: Tree, override: Override, folder: Path, schemes: Collection[str] = ()) -> Problem | None:
    """Write an override into the tree.

    Args:
        tree: the recipe as merged so far.
        override: what to change.
        folder: the working directory, from which its relative paths start.
        schemes: those of installed sources; text with one of them is no path.

    Returns:
        What is wrong with its key path, or None.
    """
    at: Location = ()
    try:
        for key in override.keys[:-1]:
            at = _step(tree, at, key)
            if tree.value(at) is None:
                tree.put(at, {}, lambda _: override.origin)
        at = _step(tree, at, override.keys[-1], last=True)
    except _AddressError as error:
        return Problem(override.origin, override.keys, str(error), "address")
    value = absolute_paths(override.value, at, folder, schemes)
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):  # bytes that are not UTF-8
        fault = "the name is not UTF-8, which a recipe cannot hold; rename the folder or file, or link to it"
        return Problem(override.origin, override.keys, fault, "override")
    if isinstance(at[-1], str):
        # As a table of one key around it, so that a new name or length drops what it makes meaningless.
        tree.overlay(at[:-1], {at[-1]: value}, lambda _: override.origin)
    else:
        tree.put(at, value, lambda _: override.origin)
    return None


def _step(tree: Tree, at: Location, key: str, *, last: bool = False) -> Location:
    """Go from ``at`` to what ``key`` addresses there."""
    node = tree.value(at)
    if isinstance(node, list):
        return (*at, _item(node, key, ".".join(str(part) for part in at)))
    if not isinstance(node, dict):
        raise _AddressError(f"{'.'.join(str(part) for part in at)} is a single value, so there is no {key!r} in it")
    if (*at, key) in NAMED_LISTS and key not in node and not last:
        shown = ".".join(str(part) for part in (*at, key))
        raise _AddressError(f"the recipe has no [[{shown}]]; give the whole list: --set '{shown}=[{{name = \"...\"}}]'")
    return (*at, key)


def _item(items: list[Any], key: str, shown: str) -> int:
    """Return the index of the item that ``key`` addresses, by index or by name."""
    if key.isdecimal():
        if int(key) < len(items):
            return int(key)
        last = f"indices 0 to {len(items) - 1}" if items else "it is empty"
        raise _AddressError(f"no item {key}; {shown} has {len(items)} ({last})")
    names = item_names(items)
    # "malap" also addresses the item named "distribution/malap".
    hits = [index for index, name in enumerate(names) if name is not None and key in (name, name.rpartition("/")[2])]
    if len(hits) == 1:
        return hits[0]
    if hits:
        indices = " or ".join(f"{shown}.{index}" for index in hits)
        raise _AddressError(f"{len(hits)} items are named {key!r}; use the index: {indices}")
    known = [name for name in names if name is not None]
    guess = did_you_mean(key, known)
    raise _AddressError(f"no item is named {key!r}{guess} ({shown} has: {', '.join(known) or 'none'})")


@dataclass(frozen=True)
class MaskerArgument:
    """One masker as typed.

    Attributes:
        text: the masker and its options, as typed.
        name: of the masker.
        settings: ``key=value`` texts.
    """

    text: str
    name: str
    settings: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The settings as option values; a value is read as TOML, and as text where it is not TOML."""
        pairs = (setting.partition("=") for setting in self.settings)
        return {key.strip(): parse_value(value) for key, _, value in pairs}


def parse_maskers(text: str) -> list[MaskerArgument]:
    """Read ``NAME`` or ``NAME:KEY=VALUE,KEY=VALUE``, several separated by commas.

    A piece between commas that has ``=`` and no name in front is an option of the masker before it.

    Raises:
        ValueError: an option without a masker, an empty name, or an option that is not ``KEY=VALUE``.
    """
    arguments: list[MaskerArgument] = []
    for piece in _split(text):
        name, _, option = piece.partition(":")
        continues = "=" in name
        if continues:
            option = piece  # the colon, if any, is part of the value
            if not arguments:
                raise ValueError(f"option {piece!r} comes before any masker")
        elif not name.strip():
            raise ValueError(f"expected name or name:key=value,key=value, found {piece!r}")
        key, equals, _ = option.partition("=")
        if option.strip() and not (equals and key.strip()):
            raise ValueError(f"expected name:key=value,key=value, found {option.strip()!r} behind the name")
        if continues:
            last = arguments[-1]
            arguments[-1] = MaskerArgument(f"{last.text},{piece}", last.name, (*last.settings, option))
        else:
            arguments.append(MaskerArgument(piece, name.strip(), (option,) if option.strip() else ()))
    return arguments


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes, so that a value may be a TOML array, table or string."""
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            pieces.append("")
            continue
        pieces[-1] += letter
    return [piece.strip() for piece in pieces]

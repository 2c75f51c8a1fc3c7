"""Paths written in recipes."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

from ssl_wb.recipe.origins import Location
from ssl_wb.recipe.schema import SYNTHETIC

__all__ = ["absolute", "absolute_paths", "is_path"]

_SCHEME = SYNTHETIC.partition(":")[0] + ":"


def absolute(text: str, base: Path) -> str:
    """Make a recipe's path absolute.

    Args:
        text: as written; ``~`` is the home folder. ``synthetic:...`` and an empty text stay, for the checks.
        base: folder that relative paths start from.
    """
    if not text or text.startswith(_SCHEME):
        return text
    path = base / os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises on an unknown user
    # Symbolic links stay as written, except where ".." makes their targets matter.
    return str(path.resolve() if ".." in path.parts else path.absolute())


def is_path(at: Location) -> bool:
    """Whether the value at ``at`` names a file or folder."""
    return at == ("data", "train") or (len(at) == 3 and at[0] == "evaluate" and at[2] == "task")


def _is_sound_path(at: Location) -> bool:
    """Whether the value at ``at`` is a path among an augmentation's options, as ``sounds_path``, or one of several."""
    return at[:2] == ("data", "augment") and len(at) in (4, 5) and str(at[3]).endswith("_path")


def absolute_paths(value: Any, at: Location, base: Path) -> Any:
    """Return a copy of ``value`` with its paths made absolute.

    Args:
        value: what is written at ``at``, a table or a single value.
        at: its place in the recipe.
        base: folder that relative paths start from.
    """
    if isinstance(value, dict):
        return {key: absolute_paths(item, (*at, key), base) for key, item in value.items()}
    if isinstance(value, list):
        return [absolute_paths(item, (*at, index), base) for index, item in enumerate(value)]
    named = is_path(at) or _is_sound_path(at)
    return absolute(value, base) if isinstance(value, str) and named else deepcopy(value)

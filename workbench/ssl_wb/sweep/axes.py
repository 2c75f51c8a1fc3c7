"""Axes of a sweep file: keys and values to levels with names."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_wb.recipe.files import absolute_paths
from ssl_wb.recipe.overrides import Override, make_override, parse_override
from ssl_wb.recipe.tree import Location, Tree
from ssl_wb.sweep.cells import Axis, Level
from ssl_wb.sweep.schema import AxisSection

__all__ = ["SweepReader"]


class SweepReader:
    """Reads the tables of one sweep file and collects what is wrong with them.

    Args:
        tree: the values, with the line of each.
        folder: that relative paths start from.
        schemes: of installed sources; text with one of them is no path.

    Attributes:
        problems: mistakes so far.
    """

    def __init__(self, tree: Tree, folder: Path, schemes: Collection[str]) -> None:
        self._tree, self._folder, self._schemes = tree, folder, schemes
        self.problems: list[str] = []

    def fault(self, at: Location, text: str) -> None:
        """Note a mistake at a place of the file."""
        self.problems.append(f"{self._tree.origin(at)}: {'.'.join(map(str, at))}: {text}")

    def settings(self, values: Mapping[str, Any], at: Location) -> list[Override]:
        """Return the overrides that a table of keys means; tables in it are followed to their single values."""
        return [
            override
            for key, value in values.items()
            if (keys := self._keys(key, (*at, key))) is not None
            for override in self.leaves(keys, value, (*at, key))
        ]

    def _keys(self, text: str, at: Location) -> tuple[str, ...] | None:
        parsed = parse_override(f"{text}=0")
        if isinstance(parsed, Override):
            return parsed.keys
        self.fault(at, f"expected a key of the recipe, as train.steps; found {text!r}")
        return None

    def leaves(self, keys: tuple[str, ...], value: Any, at: Location, said: str = "") -> Iterator[Override]:
        """Yield the overrides of one key; of a table, one for each single value in it.

        Args:
            keys: the key of the recipe.
            value: its value.
            at: where the value is written in the sweep file.
            said: where it is written instead, for messages.
        """
        if isinstance(value, dict) and value:
            for key, one in value.items():
                yield from self.leaves((*keys, key), one, (*at, key), said)
            return
        whole = absolute_paths(value, keys, self._folder, self._schemes)
        yield make_override(keys, whole, said or str(self._tree.origin(at)))

    def axes(self, sections: list[AxisSection]) -> list[Axis]:
        """Return the axes, with names for their levels."""
        axes: list[Axis] = []
        for number, section in enumerate(sections):
            at: Location = ("axis", number)
            name = section.name or str(section.key).rpartition(".")[2]
            levels = self._of_key(section, at) if section.key is not None else self._of_levels(section, at)
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", name.replace("_", "-")):
                self.fault(at, f"{name!r} is no name for folders; give the axis a name")
            if name == "seed":
                self.fault(at, "an axis cannot be called seed; seeds = [...] lists the seeds")
            if name in [axis.name for axis in axes]:
                self.fault(at, f"two axes are called {name!r}; give one another name")
            names = [level.name for level in levels]
            for twice in sorted({one for one in names if names.count(one) > 1}):
                self.fault(at, f"two levels are called {twice!r}; give names = [...], one for each value")
            axes.append(Axis(name, tuple(levels)))
        return axes

    def _of_key(self, section: AxisSection, at: Location) -> list[Level]:
        assert section.key is not None
        values = section.values or []
        names = section.names or [level_name(value) for value in values]
        keys = self._keys(section.key, (*at, "key"))
        levels = []
        for number, (name, value) in enumerate(zip(names, values, strict=True)):
            here: Location = (*at, "values", number)
            if not name:
                self.fault((*at, "values"), f"value {number} gives no name for folders; give names = [...]")
            if section.key == "base":
                if not isinstance(value, str):
                    self.fault((*at, "values"), "a base is the name or path of a recipe, in quotes")
                levels.append(Level(name, base=(str(value), str(self._tree.origin(here)))))
            elif keys is not None:
                levels.append(Level(name, tuple(self.leaves(keys, value, here))))
        return levels

    def _of_levels(self, section: AxisSection, at: Location) -> list[Level]:
        levels = []
        for number, level in enumerate(section.level):
            here: Location = (*at, "level", number)
            base = None if level.base is None else (level.base, str(self._tree.origin((*here, "base"))))
            if base is None and not level.set and len(section.level) == 1:
                self.fault(here, "one level that changes nothing is no axis")
            levels.append(Level(level.name, tuple(self.settings(level.set, (*here, "set"))), base))
        return levels


def level_name(value: Any) -> str:
    """Return a name for a value: a table's ``name``, else the value, without what folder names should not have."""
    if isinstance(value, dict):
        value = value.get("name", "")
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float):
        text = f"{value:g}" if math.isfinite(value) else str(value)
    elif isinstance(value, list):
        text = "-".join(level_name(one) for one in value)
    else:
        text = Path(value).stem if isinstance(value, str) and "/" in value else str(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.")

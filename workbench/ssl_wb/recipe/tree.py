"""The values of a recipe while it is put together, each with its origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from ssl_wb.recipe.origins import Location, Origin
from ssl_wb.recipe.schema import (
    AugmentSection,
    BackboneSection,
    EvaluateSection,
    FrontEndSection,
    MaskerSection,
    ObjectiveSection,
    OptimizerSection,
)

__all__ = ["LENGTH_KEYS", "LIST_SECTIONS", "NAMED_LISTS", "Tree", "item_names", "section_keys"]

#: Keys of ``[train]`` that say how long; one of them at a time.
LENGTH_KEYS = ("steps", "epochs", "samples")

#: Sections that are lists of plugins.
LIST_SECTIONS = ("objective", "evaluate")

#: Places of all lists of tables with a ``name``, by which their items are addressed.
NAMED_LISTS: tuple[Location, ...] = (("objective",), ("evaluate",), ("data", "augment"))

# Keys of the section itself: they stay when ``name`` changes, everything else was for the former name.
_OWN_KEYS: dict[Location, frozenset[str]] = {
    ("masker",): frozenset(MaskerSection.model_fields),
    ("backbone",): frozenset(BackboneSection.model_fields),
    ("objective",): frozenset(ObjectiveSection.model_fields),
    ("evaluate",): frozenset(EvaluateSection.model_fields),
    ("data", "augment"): frozenset(AugmentSection.model_fields),
    ("front_end",): frozenset({"name"}),
    ("optimizer",): frozenset({"name"}),
}
_DEFAULT_NAMES = {
    "front_end": FrontEndSection.model_fields["name"].default,
    "optimizer": OptimizerSection.model_fields["name"].default,
}


def section_keys(at: Location) -> frozenset[str] | None:
    """Return the keys of the named section at ``at`` that are no plugin options; None if it is none."""
    if at in NAMED_LISTS:
        return None  # its items have the keys
    return _OWN_KEYS.get(at[:-1] if at[:-1] in NAMED_LISTS else at)


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
        own = section_keys(at)
        if own is not None and "name" in values:
            former = table.get("name", _DEFAULT_NAMES.get(str(at[0])))
            if former is not None and former != values["name"]:
                return [key for key in table if key not in own]
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

"""In which keys two recipes differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["MISSING", "Difference", "differences", "leaves", "shown"]


class _Missing:
    """Stands for the value of a key that a recipe does not have."""

    def __repr__(self) -> str:
        return "not set"


#: The value of a key that a recipe does not have.
MISSING = _Missing()


@dataclass(frozen=True)
class Difference:
    """A key and its value in two recipes; :data:`MISSING` where one does not have it."""

    key: str
    left: Any
    right: Any

    def texts(self) -> tuple[str, str]:
        """Return both values as a recipe writes them."""
        return shown(self.left), shown(self.right)


def shown(value: Any) -> str:
    """Return a value as a recipe writes it."""
    return "not set" if value is MISSING else json.dumps(value, default=str, ensure_ascii=False)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each single value of a recipe's tree with its address, as ``objective.mcl.weight``.

    Items of a list of tables with names go by their name where it is the only one, by their number otherwise; a list of
    other values is one value.
    """
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from leaves(part, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        names = [one.get("name") for one in value]
        for number, part in enumerate(value):
            own = names[number] if names.count(names[number]) == 1 and names[number] else number
            yield from leaves(part, f"{key}.{own}")
    else:
        yield key, value


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """Return the keys in which two resolved recipes differ, in the order of the recipes."""
    ours, theirs = dict(leaves(left)), dict(leaves(right))
    return [
        Difference(key, ours.get(key, MISSING), theirs.get(key, MISSING))
        for key in dict.fromkeys((*ours, *theirs))
        if ours.get(key, MISSING) != theirs.get(key, MISSING)
    ]

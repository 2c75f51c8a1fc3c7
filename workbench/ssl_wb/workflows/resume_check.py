"""Whether the recipe that is named beside ``--resume`` is the run's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ssl_wb.errors import WorkbenchError
from ssl_wb.recipe.files import find_recipe
from ssl_wb.recipe.load import LoadedRecipe, load_recipe, resolved
from ssl_wb.runs.folder import RunFolder

__all__ = ["warn_of_other_recipe"]

log = logging.getLogger("ssl_wb")

#: Differences shown in the warning.
SHOWN = 5


def warn_of_other_recipe(recipe: str | Path, own: LoadedRecipe, folder: RunFolder) -> None:
    """Warn if the recipe that was named differs from that of the run, with which the run goes on.

    Args:
        recipe: as it was named.
        own: the recipe of the run.
        folder: the run's folder.
    """
    try:
        if find_recipe(recipe).resolve() in (folder.recipe.resolve(), folder.resolved.resolve()):
            return
        overrides = json.loads(folder.environment.read_text(encoding="utf-8"))["recipe"]["overrides"]
        given = load_recipe(recipe, overrides)
    except WorkbenchError as error:
        log.warning("%s: the run goes on with its own recipe, and %s is not read (%s)", folder.path, recipe, error)
        return
    except (OSError, ValueError, LookupError, TypeError):  # a run without a record of its overrides
        return
    ours, theirs = dict(_leaves(resolved(own))), dict(_leaves(resolved(given)))
    changed = [
        f"{key} is {_shown(ours, key)} in the run and {_shown(theirs, key)} there"
        for key in dict.fromkeys((*ours, *theirs))
        # A number that was found when the run began is 'auto' in its recipe.
        if ours.get(key) != theirs.get(key) and theirs.get(key) != "auto"
    ]
    if changed:
        more = f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        log.warning(
            "%s: the run goes on with its own recipe; changes in %s have no effect: %s%s",
            folder.path,
            given.path,
            "; ".join(changed[:SHOWN]),
            more,
        )


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a tree with its address, such as ``objective.0.weight``."""
    items = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield key, value
        return
    for name, part in items:
        yield from _leaves(part, f"{key}.{name}" if key else str(name))


def _shown(values: Mapping[str, Any], key: str) -> str:
    return json.dumps(values[key], default=str) if key in values else "not set"

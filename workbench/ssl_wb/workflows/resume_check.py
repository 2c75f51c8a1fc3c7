"""Whether the recipe and the settings that are named beside ``--resume`` are the run's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_wb.errors import RecipeError, UsageError, WorkbenchError
from ssl_wb.recipe.files import find_recipe
from ssl_wb.recipe.load import LoadedRecipe, load_recipe, resolved
from ssl_wb.runs.folder import RunFolder

__all__ = ["check_overrides", "differences", "warn_of_other_recipe"]

log = logging.getLogger("ssl_wb")

#: Differences shown in the warning.
SHOWN = 5


def check_overrides(overrides: Sequence[str], own: LoadedRecipe, folder: RunFolder) -> None:
    """Accept settings beside ``--resume`` that give the run's own recipe, so that a job can repeat its command.

    Args:
        overrides: ``key.path=value``, as typed.
        own: the recipe of the run.
        folder: the run's folder.

    Raises:
        UsageError: one of them gives another value; it is named.
    """
    if not overrides:
        return
    hint = "leave --set out to go on with the run as it is, or start another one with --out"
    try:
        given = load_recipe(folder.resolved, overrides)
    except RecipeError as error:
        raise UsageError(f"--set does not fit the recipe of the run: {error.message}", hint=hint) from error
    ours, theirs = dict(_leaves(resolved(own))), dict(_leaves(resolved(given)))
    if changed := _differences(ours, theirs, there="in --set"):
        raise UsageError(f"{folder.path}: --set is not the recipe of the run: {_few(changed)}", hint=hint)


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], there: str, *, without: Sequence[str] = ()) -> str:
    """Say where two resolved recipes differ, "" where they do not.

    Args:
        ours: the recipe of a run.
        theirs: the other one.
        there: where the other one was given, in words.
        without: keys that may differ, such as ``train.steps``.
    """
    left, right = dict(_leaves(ours)), dict(_leaves(theirs))
    skipped = {key for key in (*left, *right) if any(key == one or key.startswith(f"{one}.") for one in without)}
    left, right = ({key: value for key, value in side.items() if key not in skipped} for side in (left, right))
    return _few(_differences(left, right, there=there))


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], there: str) -> list[str]:
    return [
        f"{key} is {_shown(ours, key)} in the run and {_shown(theirs, key)} {there}"
        for key in dict.fromkeys((*ours, *theirs))
        # A number that was found when the run began is 'auto' in its recipe.
        if ours.get(key) != theirs.get(key) and theirs.get(key) != "auto"
    ]


def _few(changed: list[str]) -> str:
    return "; ".join(changed[:SHOWN]) + (f"; and {len(changed) - SHOWN} more" if len(changed) > SHOWN else "")


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
    if changed := _differences(ours, theirs, there="there"):
        log.warning(
            "%s: the run goes on with its own recipe; changes in %s have no effect: %s",
            folder.path,
            given.path,
            _few(changed),
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

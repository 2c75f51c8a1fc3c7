"""Whether the recipe and the settings that are named beside ``--resume`` are the run's own."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_wb.errors import RecipeError, UsageError, WorkbenchError
from ssl_wb.recipe.differences import differences
from ssl_wb.recipe.files import find_recipe
from ssl_wb.recipe.load import LoadedRecipe, load_recipe, resolved
from ssl_wb.runs.folder import RunFolder

__all__ = ["check_overrides", "told_differences", "warn_of_other_recipe"]

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
    if changed := _differing(resolved(own), resolved(given), there="in --set"):
        raise UsageError(f"{folder.path}: --set is not the recipe of the run: {_few(changed)}", hint=hint)


def told_differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], there: str, *, without: Sequence[str] = ()
) -> str:
    """Say where two resolved recipes differ, "" where they do not.

    Args:
        ours: the recipe of a run.
        theirs: the other one.
        there: where the other one was given, in words.
        without: keys that may differ, such as ``train.steps``.
    """
    return _few(_differing(ours, theirs, there=there, without=without))


def _differing(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], there: str, without: Sequence[str] = ()
) -> list[str]:
    return [
        "{} is {} in the run and {} {}".format(one.key, *one.texts(), there)
        for one in differences(ours, theirs)
        # A number that was found when the run began is 'auto' in its recipe.
        if one.right != "auto" and not any(one.key == key or one.key.startswith(f"{key}.") for key in without)
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
    if changed := _differing(resolved(own), resolved(given), there="there"):
        log.warning(
            "%s: the run goes on with its own recipe; changes in %s have no effect: %s",
            folder.path,
            given.path,
            _few(changed),
        )

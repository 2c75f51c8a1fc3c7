"""Whether the recipe that is named beside ``--resume`` is the run's own."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ssl_wb.errors import WorkbenchError
from ssl_wb.recipe.differences import differences
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
    changed = [
        "{} is {} in the run and {} there".format(one.key, *one.texts())
        for one in differences(resolved(own), resolved(given))
        # A number that was found when the run began is 'auto' in its recipe.
        if one.right != "auto"
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

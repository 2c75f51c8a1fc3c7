"""In what two recipes or runs differ: what ``ssl-wb diff`` does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_wb.errors import RunFolderError
from ssl_wb.recipe.differences import MISSING, Difference, differences
from ssl_wb.recipe.load import load_recipe, resolved
from ssl_wb.runs.folder import RunFolder

__all__ = ["Diff", "diff"]

#: Parts of the environment record that say where and when a run was started and not what it computes.
UNCOUNTED = ("command", "resumed", "recipe", "plugins", "packages")


@dataclass(frozen=True)
class Diff:
    """Differences by part (recipe, plugin, data, environment, package), and what was not compared."""

    parts: dict[str, list[Difference]]
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return plain values; a key that one side does not have has no value for it."""
        sides = ("a", "b")
        return {
            part: [
                {"key": one.key}
                | {
                    side: value
                    for side, value in zip(sides, (one.left, one.right), strict=True)
                    if value is not MISSING
                }
                for one in several
            ]
            for part, several in self.parts.items()
        } | {"notes": self.notes}


def diff(left: str | Path, right: str | Path) -> Diff:
    """Compare two recipes or runs.

    Args:
        left: a run folder, a recipe file, or the name of a shipped recipe.
        right: likewise.

    Returns:
        Differences. Plugin versions, data and environment are compared where both are runs.

    Raises:
        UsageError: one of them is not there.
        RecipeError: a recipe has mistakes.
        RunFolderError: a folder is no run, or its records cannot be read.
    """
    folders = [RunFolder(Path(one)) if Path(one).is_dir() else None for one in (left, right)]
    recipes = []
    for one, folder in zip((left, right), folders, strict=True):
        if folder is not None:
            folder.require_run()
        recipes.append(resolved(load_recipe(folder.resolved if folder is not None else one)))
    parts = {"recipe": differences(*recipes)}
    if None in folders:
        return Diff(parts, ["Plugin versions, data and environment are compared where both are run folders."])
    a, b = (folder for folder in folders if folder is not None)
    notes = []
    before, after = (_record(folder.environment) for folder in (a, b))
    parts["plugin"] = differences(_plugins(before), _plugins(after))
    data = [_record(folder.data, needed=False) for folder in (a, b)]
    if all(data):
        # Names and content are what counts; the digest is of the files' times, too.
        same = all(data[0].get(key) == data[1].get(key) is not None for key in ("names", "sample"))
        parts["data"] = [one for one in differences(*data) if not (same and one.key == "digest")]
    else:
        notes.append("The data is not compared: a run of an older version has no record of it.")
    parts["environment"] = differences(_plain(before), _plain(after))
    parts["package"] = differences(before.get("packages", {}), after.get("packages", {}))
    return Diff(parts, notes)


def _record(path: Path, *, needed: bool = True) -> dict[str, Any]:
    if not needed and not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("no table")
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path}: cannot be read ({error})", hint="restore the file, or compare the recipes"
        ) from error
    return record


def _plain(environment: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in environment.items() if key not in UNCOUNTED}


def _plugins(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the version of each plugin, by kind and name."""
    return {
        f"{one.get('kind')} {one.get('name')}": f"{one.get('distribution')} {one.get('version')}"
        for one in environment.get("plugins", [])
        if one.get("kind")
    }

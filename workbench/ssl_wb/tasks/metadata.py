"""What a manifest says about its task as a whole: the domain it belongs to and the metric it is reported in."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from ssl_wb.errors import DataError

__all__ = ["About", "about"]

#: Columns of a manifest that speak of the whole task.
COLUMNS = ("domain", "metric")


@dataclass(frozen=True)
class About:
    """What is known of a task before its clips are read.

    Attributes:
        domain: its group in tables; None where nobody says.
        metric: what papers report of it, as it is written; None where nobody says.
    """

    domain: str | None = None
    metric: str | None = None


def about(manifest: Path) -> About:
    """Return what a manifest says about its task.

    Each is what the column of that name says, if that is the same on all lines; otherwise what is known of the shipped
    task that the file is named after. A column of several values means something else.

    Args:
        manifest: a CSV that has been read as a manifest before, or the folder of a saved data set.

    Raises:
        DataError: the file is gone.
    """
    from ssl_wb.tasks.catalogue import CATALOGUE

    shipped = CATALOGUE.get(manifest.stem)
    named = About(shipped.domain, shipped.metric) if shipped is not None else About()
    if manifest.is_dir():
        return named
    said = _columns(manifest)
    return About(said.get("domain", named.domain), said.get("metric", named.metric))


def _columns(manifest: Path) -> dict[str, str]:
    """Return the columns about the whole task that say the same on all lines where they say anything."""
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True)
            header = [name.strip().lower() for name in next(lines, [])]
            places = {name: header.index(name) for name in COLUMNS if name in header}
            if not places:
                return {}
            said: dict[str, set[str]] = {name: set() for name in places}
            for line in lines:
                for name, place in places.items():
                    if len(line) > place:
                        said[name].add(line[place].strip())
    except OSError as error:
        raise DataError(f"{manifest}: cannot be read ({error})", hint="Was it moved meanwhile?") from error
    return {name: values.pop() for name, found in said.items() if len(values := found - {""}) == 1}

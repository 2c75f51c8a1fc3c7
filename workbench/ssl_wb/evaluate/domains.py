"""Domains: which tasks stand together in a table, as environmental sounds, speech and music do in papers."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from ssl_wb.errors import DataError

__all__ = ["domain_of", "in_order"]

#: The shipped tasks' domains, in the order of their columns (DWM, arXiv 2603.23810, Table I; AudioSet after them).
ORDER = ("environment", "speech", "music", "general")


def in_order(domains: Iterable[str | None]) -> list[str]:
    """Return the domains that are named, each once: the shipped tasks' first, then others as they come."""
    named = dict.fromkeys(domain for domain in domains if domain is not None)
    return [*(domain for domain in ORDER if domain in named), *(domain for domain in named if domain not in ORDER)]


def domain_of(manifest: Path) -> str | None:
    """Return the domain of a task.

    Args:
        manifest: a CSV that has been read as a manifest before, or the folder of a saved data set.

    Returns:
        What its column ``domain`` says, if that is the same on all lines; otherwise the domain of the shipped task that
        the file is named after; None where there is none. A column ``domain`` of several values means something else.

    Raises:
        DataError: the file is gone.
    """
    from ssl_wb.evaluate.catalogue import CATALOGUE

    named = CATALOGUE[manifest.stem].domain if manifest.stem in CATALOGUE else None
    if manifest.is_dir():
        return named
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True)
            header = [name.strip().lower() for name in next(lines, [])]
            if "domain" in header:
                place = header.index("domain")
                said = {line[place].strip() for line in lines if len(line) > place} - {""}
                if len(said) == 1:
                    return said.pop()
    except OSError as error:
        raise DataError(f"{manifest}: cannot be read ({error})", hint="Was it moved meanwhile?") from error
    return named

"""The cells of a sweep: every combination of levels, with each seed a run."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_wb.errors import did_you_mean
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.overrides import Override

__all__ = ["Axis", "Cell", "Level", "Sweep", "combinations", "fits", "rule_problems"]

#: Longest name of a run folder; most file systems take 255 bytes.
LONGEST = 200


@dataclass(frozen=True)
class Level:
    """One level of an axis.

    Attributes:
        name: part of the runs' names.
        settings: what it changes in the recipe.
        base: base recipe that it names, and where that is written.
    """

    name: str
    settings: tuple[Override, ...] = ()
    base: tuple[str, str] | None = None


@dataclass(frozen=True)
class Axis:
    """What runs differ in: a name and its levels."""

    name: str
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        levels: name of the level by axis.
        seed: pre-training seed.
        base: recipe that it starts from.
        overrides: what it changes, in order.
        loaded: the recipe as validated.
    """

    levels: Mapping[str, str]
    seed: int
    base: Path
    overrides: tuple[str | Override, ...]
    loaded: LoadedRecipe | None = field(default=None, compare=False)

    @property
    def group(self) -> str:
        """Name without the seed: runs of one group differ in their seed only."""
        return "_".join(f"{axis}={level}" for axis, level in self.levels.items()) or "base"

    @property
    def name(self) -> str:
        """Name of the run and of its folder."""
        return f"{self.group}_seed={self.seed}" if self.levels else f"seed={self.seed}"

    @property
    def settings(self) -> list[str]:
        """What it changes, as ``--set`` takes it."""
        return [one.text if isinstance(one, Override) else one for one in self.overrides]

    @property
    def recipe(self) -> LoadedRecipe:
        """The recipe as validated."""
        assert self.loaded is not None, "the sweep was not validated"
        return self.loaded


@dataclass(frozen=True)
class Sweep:
    """A sweep file with its runs.

    Attributes:
        path: the file.
        source: its text.
        title: a line for tables.
        axes: what the runs differ in.
        seeds: pre-training seeds.
        cells: all runs in the order in which they are trained: seed by seed, so that a part of them is balanced.
        baseline: level by axis that others are compared with.
    """

    path: Path
    source: str
    title: str
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    baseline: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return plain values: what ``compare`` reads beside the runs."""
        return {
            "title": self.title,
            "file": self.path.name,
            "axes": {axis.name: [level.name for level in axis.levels] for axis in self.axes},
            "seeds": list(self.seeds),
            "baseline": dict(self.baseline),
            "runs": [{"name": cell.name, "levels": dict(cell.levels), "seed": cell.seed} for cell in self.cells],
        }


def combinations(
    axes: Sequence[Axis], seeds: Sequence[int], skip: Sequence[Mapping[str, Any]], only: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[tuple[Level, ...], int]]:
    """Yield the levels and the seed of every run, seed by seed; in each seed the first axis changes slowest."""
    for seed in seeds:
        for levels in itertools.product(*(axis.levels for axis in axes)):
            names = {axis.name: level.name for axis, level in zip(axes, levels, strict=True)} | {"seed": str(seed)}
            if any(fits(names, rule) for rule in skip) or (only and not any(fits(names, rule) for rule in only)):
                continue
            yield levels, seed


def fits(names: Mapping[str, str], rule: Mapping[str, Any]) -> bool:
    """Whether a run with these levels is one that a rule means."""
    return all(
        names[axis] in map(str, wanted if isinstance(wanted, list) else [wanted]) for axis, wanted in rule.items()
    )


def rule_problems(rule: Mapping[str, Any], axes: Sequence[Axis], seeds: Sequence[int]) -> list[str]:
    """Return what is wrong with a rule: axes and levels that the sweep does not have."""
    known = {axis.name: [level.name for level in axis.levels] for axis in axes} | {
        "seed": [str(seed) for seed in seeds]
    }
    problems = [] if rule else ["an empty table fits every run; name an axis and a level"]
    for axis, wanted in rule.items():
        if axis not in known:
            problems.append(f"no axis is called {axis!r}{did_you_mean(axis, known)} (axes: {', '.join(known)})")
            continue
        for level in map(str, wanted if isinstance(wanted, list) else [wanted]):
            if level not in known[axis]:
                guess = did_you_mean(level, known[axis])
                problems.append(f"axis {axis!r} has no level {level!r}{guess} (levels: {', '.join(known[axis])})")
    return problems

"""From a sweep file to runs with validated recipes; every mistake reported at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_wb.errors import RecipeError, UsageError
from ssl_wb.plugin.places import installed_sources, schemes_of
from ssl_wb.recipe.files import Layer, find_shipped, find_sweep, read_document
from ssl_wb.recipe.load import load_recipe, resolved
from ssl_wb.recipe.overrides import Override, make_override
from ssl_wb.recipe.problems import Problem, check_model
from ssl_wb.recipe.tree import Tree, key_lines, shown_path
from ssl_wb.sweep.axes import SweepReader
from ssl_wb.sweep.cells import LONGEST, Axis, Cell, Level, Sweep, combinations, fits, rule_problems
from ssl_wb.sweep.schema import SweepDocument

if TYPE_CHECKING:
    from ssl_wb.plugin.registry import Registry

__all__ = ["Changes", "load_sweep"]

HINT = "workbench/docs/compare.md describes sweep files, `ssl-wb describe KIND NAME` a plugin's options"


@dataclass(frozen=True)
class Changes:
    """What the command line changes of a sweep: ``--set``, ``--task``, ``--evaluator``."""

    settings: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()


def load_sweep(name_or_path: str | Path, changes: Changes | None = None, *, registry: Registry | None = None) -> Sweep:
    """Read a sweep file and validate the recipe of each of its runs.

    Args:
        name_or_path: a file, or the name of a shipped sweep.
        changes: of the command line.
        registry: the plugins; the installed ones unless given.

    Raises:
        UsageError: there is no such sweep.
        RecipeError: the file, or the recipe of a run, has mistakes; all of them are in it.
    """
    if registry is None:
        from ssl_wb.plugin.registry import load_registry

        registry = load_registry()
    changes = changes or Changes()
    path = find_sweep(name_or_path)
    content = read_document(path)
    if isinstance(content, Problem):
        raise RecipeError([str(content)], where=shown_path(path))
    source, data = content
    layer = Layer(path, source, data, key_lines(source))
    tree = Tree(path)
    tree.overlay((), data, layer.origin)
    document = check_model(SweepDocument, tree.data, (), tree, owner="a sweep")
    if isinstance(document, list):
        raise RecipeError([str(problem) for problem in document], where=shown_path(path), hint=HINT)
    reader = SweepReader(tree, path.parent, schemes_of(installed_sources(registry)))
    axes = reader.axes(document.axis)
    common = reader.settings(document.set, ("set",))
    probes = _probes(document, changes, tree, path.parent, reader)
    _check_rules(document, axes, reader)
    if reader.problems:
        raise RecipeError(reader.problems, where=shown_path(path), hint=HINT)
    default = (document.base, str(tree.origin(("base",)))) if document.base else None
    cells = [
        _cell(axes, levels, seed, default, path, (common, probes, changes.settings), reader, registry)
        for levels, seed in combinations(axes, document.seeds, document.skip, document.only)
    ]
    cells = _validated(cells, path, reader.problems, registry)
    seeds = tuple(seed for seed in document.seeds if any(cell.seed == seed for cell in cells))
    return Sweep(path, source, document.title, tuple(axes), seeds, tuple(cells), document.baseline)


def _cell(
    axes: Sequence[Axis],
    levels: Sequence[Level],
    seed: int,
    default: tuple[str, str] | None,
    path: Path,
    shared: tuple[list[Override], list[Override], tuple[str, ...]],
    reader: SweepReader,
    registry: Registry,
) -> Cell:
    """Put one run together: common settings, those of its levels in the order of the axes, seed, probes, ``--set``."""
    base = next((level.base for level in reversed(levels) if level.base is not None), default)
    found = path  # stands for a base that cannot be found, which is a mistake of its own
    if base is None:
        reader.problems.append(f'{shown_path(path)}: base: the sweep names no base recipe; add base = "NAME"')
    else:
        beside = path.parent / base[0]
        try:
            found = beside if beside.is_file() else find_shipped(base[0], registry=registry)
        except UsageError as error:
            reader.problems.append(f"{base[1]}: base: {error.message}")
    common, probes, typed = shared
    overrides: list[str | Override] = [*common]
    for level in levels:
        overrides += level.settings
    overrides += [make_override(("seed",), seed, f"{shown_path(path)}: seeds"), *probes, *typed]
    names = {axis.name: level.name for axis, level in zip(axes, levels, strict=True)}
    return Cell(names, seed, found, tuple(overrides))


def _probes(document: SweepDocument, changes: Changes, tree: Tree, folder: Path, reader: SweepReader) -> list[Override]:
    """Return the setting of the probes: every evaluator on every task; none where the sweep names no task."""
    typed: list[Any] = [str(Path(task).absolute()) if Path(task).exists() else task for task in changes.tasks]
    tasks: list[Any] = typed or list(document.tasks)
    evaluators: list[Any] = list(changes.evaluators) or list(document.evaluators)
    if not tasks:
        if changes.evaluators:
            reader.problems.append("--evaluator: the sweep names no task to evaluate on; add --task MANIFEST.csv")
        return []
    wanted = []
    for task in tasks:
        of_task = task if isinstance(task, dict) else {"task": task}
        for evaluator in evaluators:
            options = evaluator if isinstance(evaluator, dict) else {"name": evaluator}
            wanted.append({**options, **of_task})
    said = "--task" if typed else str(tree.origin(("tasks",)))
    return list(reader.leaves(("evaluate",), wanted, ("tasks",), said))


def _check_rules(document: SweepDocument, axes: Sequence[Axis], reader: SweepReader) -> None:
    """Check rules and baseline against the axes."""
    for what in ("skip", "only"):
        for number, rule in enumerate(getattr(document, what)):
            for text in rule_problems(rule, axes, document.seeds):
                reader.fault((what, number), text)
    if document.baseline:
        for text in rule_problems(document.baseline, axes, ()):
            reader.fault(("baseline",), text)
    if reader.problems:
        return
    for number, rule in enumerate(document.skip):
        runs = combinations(axes, document.seeds, (), document.only)
        names = [_names(axes, levels, seed) for levels, seed in runs]
        if not any(fits(one, rule) for one in names):
            reader.fault(("skip", number), "fits no run")
    if not any(combinations(axes, document.seeds, document.skip, document.only)):
        reader.fault(("skip",) if document.skip else ("only",), "no run is left")


def _names(axes: Sequence[Axis], levels: Sequence[Level], seed: int) -> dict[str, str]:
    return {axis.name: level.name for axis, level in zip(axes, levels, strict=True)} | {"seed": str(seed)}


def _validated(cells: list[Cell], path: Path, problems: list[str], registry: Registry) -> list[Cell]:
    """Load the recipe of every run.

    Raises:
        RecipeError: one message for each mistake; one that only some runs have names them.
    """
    found = dict.fromkeys(problems)
    by_problem: dict[str, list[str]] = {}
    loaded = []
    for cell in cells:
        if len(cell.name) > LONGEST:
            by_problem.setdefault(f"a run's name is longer than {LONGEST} characters; shorten names", []).append(
                cell.name
            )
        if found:
            continue
        try:
            loaded.append(replace(cell, loaded=load_recipe(cell.base, cell.overrides, registry=registry)))
        except RecipeError as error:
            for problem in error.problems:
                by_problem.setdefault(problem, []).append(cell.group)
    for one, other in _same_recipes(loaded):
        found[f"{shown_path(path)}: {one} and {other} have the same recipe; they would be trained twice"] = None
    groups = len({cell.group for cell in cells})
    for problem, names in by_problem.items():
        several = list(Counter(names))
        more = f" and {len(several) - 1} more" if len(several) > 1 else ""
        found[problem if len(several) == groups else f"{problem} (in {several[0]}{more})"] = None
    if found:
        raise RecipeError(list(found), where=shown_path(path), hint=HINT)
    return loaded


def _same_recipes(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Return pairs of groups of runs whose recipes do not differ."""
    first: dict[str, str] = {}
    found = []
    for cell in cells:
        text = json.dumps({**resolved(cell.recipe), "title": ""}, default=str)
        group = first.setdefault(text, cell.group)
        if group != cell.group:
            found.append((group, cell.group))
    return found

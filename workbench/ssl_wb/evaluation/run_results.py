"""Runs with their recipes and results, and which of them are one cell: equal recipes with different seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from ssl_wb.errors import RunFolderError, UsageError
from ssl_wb.evaluation.score_files import read_scores
from ssl_wb.recipe.differences import MISSING, leaves
from ssl_wb.runs.folder import RunFolder
from ssl_wb.scoring.clip_scores import ClipScores

__all__ = ["SWEEP", "RunCell", "RunResults", "cells_of", "differing_keys", "find_runs", "read_run", "sweep_record"]

#: File of a sweep's folder that names its runs.
SWEEP = "sweep.json"
#: Keys that change no weight: runs that differ in these only are one cell.
IGNORED = re.compile(
    r"title|seed|evaluate(\..*)?|data\.workers|train\.(log_every|checkpoint_every|keep_checkpoints|trackers)|encoder\..*"
)
#: The seed at the end of a run's name.
SEED = re.compile(r"[_-]?seed[=_-]?\d+$")


@dataclass(frozen=True)
class RunResults:
    """A run that was probed.

    Attributes:
        path: its folder.
        seed: pre-training seed.
        keys: every key of its recipe that matters to its weights, the seed aside.
        rows: results of its encoder, as in ``results.json``.
        scores: of test clips, by task and evaluator.
        others: results of untrained weights and log-mel statistics.
    """

    path: Path
    seed: int
    keys: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    scores: Mapping[tuple[str, str], ClipScores]
    others: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class RunCell:
    """Runs of one recipe with different seeds.

    Attributes:
        name: in tables.
        runs: by seed.
        levels: level by axis, of a sweep's cell.
    """

    name: str
    runs: Mapping[int, RunResults]
    levels: Mapping[str, str] = field(default_factory=dict)


def sweep_record(folder: Path) -> dict[str, Any] | None:
    """Return what a sweep wrote about its runs; None where the folder is none of a sweep."""
    path = folder / SWEEP
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(one["name"], str) for one in record["runs"]):
            raise ValueError("names of runs are no texts")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunFolderError(
            f"{path}: cannot be read ({error!r})", hint="repeat the sweep: it writes it anew"
        ) from error
    return record


def find_runs(folders: Sequence[str | Path]) -> list[Path]:
    """Return the run folders that are named, and those inside of folders of sweeps, each once.

    Raises:
        RunFolderError: a folder is neither.
        UsageError: nothing is named.
    """
    found: dict[Path, Path] = {}
    for folder in map(Path, folders):
        inside = [folder] if RunFolder(folder).is_run() else []
        if not inside and folder.is_dir():
            inside = sorted(path.parent for path in folder.glob("*/recipe.resolved.toml"))
        if not inside:
            fault = "no run folder, and no folder of a sweep with runs" if folder.exists() else "no such folder"
            raise RunFolderError(f"{folder}: {fault}", hint="name run folders, or the folder that `ssl-wb sweep` made")
        found |= {path.resolve(): path for path in inside}
    if not found:
        raise UsageError("no run to compare", hint="name run folders, or the folder of a sweep")
    return list(found.values())


def read_run(path: Path) -> RunResults:
    """Read a run's recipe and results.

    Raises:
        RunFolderError: it is no run, or its files cannot be read.
        DataError: its scores cannot be read.
    """
    folder = RunFolder(path)
    folder.require_run()
    try:
        recipe = tomli.loads(folder.resolved.read_text(encoding="utf-8"))
        results = json.loads(folder.results.read_text(encoding="utf-8")) if folder.results.is_file() else []
        rows = [row for row in results if row["role"] == "encoder"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RunFolderError(
            f"{path}: its recipe or results cannot be read ({error})", hint="restore the file"
        ) from error
    keys = {key: value for key, value in leaves(recipe) if not IGNORED.fullmatch(key)}
    others = [row for row in results if row["role"] != "encoder"]
    return RunResults(path, int(recipe.get("seed", 0)), keys, rows, read_scores(folder.scores), others)


def cells_of(runs: Sequence[RunResults], levels: Mapping[str, Mapping[str, str]] | None = None) -> list[RunCell]:
    """Group runs whose recipes differ in the seed only.

    Args:
        runs: in the order of tables.
        levels: levels by axis of a sweep's runs, by run name.

    Raises:
        UsageError: two runs have one recipe and one seed.
    """
    grouped: dict[str, list[RunResults]] = {}
    for run in runs:
        grouped.setdefault(json.dumps(dict(sorted(run.keys.items())), default=str), []).append(run)
    cells: list[RunCell] = []
    for group in grouped.values():
        by_seed: dict[int, RunResults] = {}
        for run in group:
            if run.seed in by_seed:
                raise UsageError(
                    f"{by_seed[run.seed].path} and {run.path} have the same recipe and the same seed {run.seed}",
                    hint="they are one run twice: name one of them",
                )
            by_seed[run.seed] = run
        stems = {SEED.sub("", run.path.resolve().name) for run in group}
        name = stems.pop() if len(stems) == 1 else group[0].path.resolve().name
        if name in [cell.name for cell in cells] or not name:
            name = f"{group[0].path.resolve().parent.name}/{name or group[0].path.resolve().name}"
        own = (levels or {}).get(group[0].path.name, {})
        cells.append(RunCell(name, by_seed, own))
    return cells


def differing_keys(cells: Sequence[RunCell]) -> dict[str, list[Any]]:
    """Return the keys in which the cells' recipes differ, with a value for each cell."""
    keys = [next(iter(cell.runs.values())).keys for cell in cells]
    found = {}
    for key in dict.fromkeys(key for one in keys for key in one):
        values = [one.get(key, MISSING) for one in keys]
        if any(value != values[0] for value in values):
            found[key] = values
    return found

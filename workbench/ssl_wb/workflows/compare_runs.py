"""Compare runs and sweeps: what ``ssl-wb compare`` does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ssl_wb.errors import UsageError
from ssl_wb.evaluation.comparison import check_cell, compare_cells
from ssl_wb.evaluation.comparison_results import Comparison, comparison_json
from ssl_wb.evaluation.results import Row
from ssl_wb.evaluation.run_results import (
    RunCell,
    RunResults,
    cells_of,
    differing_keys,
    find_runs,
    read_run,
    sweep_record,
)
from ssl_wb.evaluation.runner import RunnerProgress, evaluate_runs
from ssl_wb.recipe.differences import shown
from ssl_wb.report.comparison_tables import comparison_layouts, differing_layout
from ssl_wb.report.layout import Layout
from ssl_wb.report.tables import layout_markdown
from ssl_wb.runs.device import named_device
from ssl_wb.scoring.clip_scores import clip_scores
from ssl_wb.workflows.evaluate import build_evaluators, read_tasks

__all__ = ["BASELINES", "Probing", "RunComparison", "compare_runs"]

#: Results of encoders that were not trained, in a sweep's folder.
BASELINES = "baselines.json"


@dataclass(frozen=True)
class Probing:
    """Tasks to probe runs on before they are compared; with none, the results that the runs have are compared."""

    tasks: Sequence[str | Path] = ()
    evaluators: Sequence[str] = ("linear",)
    settings: Sequence[str] = ()
    seeds: int = 3
    checkpoint: str = "last"
    device: str | None = None
    progress: RunnerProgress | None = None


@dataclass(frozen=True)
class RunComparison:
    """What a comparison of runs found.

    Attributes:
        cells: runs of equal recipe.
        keys: keys in which the cells' recipes differ, with a value for each cell.
        found: scores, differences, ranks.
        others: results of encoders that were not trained.
    """

    cells: list[RunCell]
    keys: dict[str, list[Any]]
    found: Comparison
    others: list[Mapping[str, Any]]

    def layouts(self) -> list[Layout]:
        """Return the tables."""
        return [differing_layout(self.found.cells, self.keys), *comparison_layouts(self.found, self.others)]

    def markdown(self) -> list[str]:
        """Return headings and tables in Markdown."""
        heads = [
            "## What differs",
            "## Scores",
            *(["## Differences"] if self.found.contrasts else []),
            "## What varies",
        ]
        return [text for head, one in zip(heads, self.layouts(), strict=True) for text in (head, layout_markdown(one))]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "runs": {cell.name: {str(seed): str(run.path) for seed, run in cell.runs.items()} for cell in self.cells},
            "recipe_keys": {key: [shown(value) for value in values] for key, values in self.keys.items()},
            **comparison_json(self.found),
        }


def compare_runs(
    folders: Sequence[str | Path],
    *,
    baseline: str | None = None,
    margin: float = 1.0,
    probing: Probing | None = None,
    sweep: Path | None = None,
) -> RunComparison:
    """Compare runs: those of one recipe with several seeds are one cell.

    Args:
        folders: run folders, and folders of sweeps.
        baseline: the cell that the others are compared with, by its name or the folder of a run; unless given, that of
            the sweep, or the first cell.
        margin: of equivalence, in points.
        probing: tasks to probe the runs on now.
        sweep: folder of the sweep that named runs belong to, which knows their axes.

    Raises:
        UsageError: an argument names nothing, or the runs have no results.
        RunFolderError: a folder is no run and no sweep.
        DataError: results cannot be read.
    """
    if margin <= 0:
        raise UsageError(f"--margin {margin:g}: expected points above 0")
    runs = [read_run(path) for path in find_runs(folders)]
    if probing is not None and probing.tasks:
        runs = _probed(runs, probing)
    places = [*map(Path, folders), *([sweep] if sweep is not None else [])]
    records = [record for place in places if (record := sweep_record(place)) is not None]
    levels = {run["name"]: run["levels"] for record in records for run in record["runs"]}
    order = {run["name"]: number for record in records for number, run in enumerate(record["runs"])}
    runs.sort(key=lambda run: order.get(run.path.name, len(order)))  # stable: others as they are named
    missing = [run for run in runs if not run.rows]
    runs = [run for run in runs if run.rows] or runs
    cells = cells_of(runs, levels)
    of_sweep = {axis: level for record in records for axis, level in record["baseline"].items()}
    found = compare_cells(cells, _baselines(cells, baseline, of_sweep), margin)
    if missing and len(missing) < len(runs) + len(missing):
        names = ", ".join(run.path.name for run in missing[:3]) + (", ..." if len(missing) > 3 else "")
        found.notes.append(f"{len(missing)} runs without results are left out: {names}")
    found.notes += _unbalanced(cells)
    return RunComparison(cells, differing_keys(cells), found, _others(places, runs))


def _probed(runs: Sequence[RunResults], probing: Probing) -> list[RunResults]:
    """Probe runs now, in place of the results that they have; embeddings are kept in the runs."""
    device, evaluators = named_device(probing.device), build_evaluators(probing.evaluators, probing.settings)
    tasks = read_tasks(probing.tasks, encoders={run.path.name: run.path for run in runs})
    rows = evaluate_runs(
        [run.path for run in runs],
        tasks,
        evaluators,
        range(probing.seeds),
        with_untrained=False,
        with_baselines=False,
        checkpoint=probing.checkpoint,
        device=device,
        progress=probing.progress,
    )
    by_encoder: dict[str, list[Row]] = {}
    for row in rows:
        by_encoder.setdefault(row.encoder, []).append(row)
    probed = []
    # Rows are in the order of the runs, and every run has some: an encoder that fails raises.
    for run, own in zip(runs, by_encoder.values(), strict=True):
        scores = {(row.task, row.evaluator): kept for row in own if (kept := clip_scores(row.result)) is not None}
        probed.append(replace(run, rows=[row.as_json() for row in own], scores=scores, others=()))
    return probed


def _baselines(cells: Sequence[RunCell], baseline: str | None, of_sweep: Mapping[str, str]) -> dict[str, str]:
    """Return the cell that each cell is compared with."""
    if baseline is not None:
        name = check_cell(baseline, cells)
    elif of_sweep:
        found = {}
        for cell in cells:
            wanted = {**cell.levels, **{axis: level for axis, level in of_sweep.items() if axis in cell.levels}}
            other = next((one.name for one in cells if one.levels == wanted), None)
            if other is not None and other != cell.name:
                found[cell.name] = other
        return found
    else:
        name = cells[0].name
    return {cell.name: name for cell in cells if cell.name != name}


def _unbalanced(cells: Sequence[RunCell]) -> list[str]:
    """Return a note where cells have different seeds."""
    seeds = {cell.name: sorted(cell.runs) for cell in cells}
    if len({tuple(one) for one in seeds.values()}) < 2:
        return []
    counts = "; ".join(f"{name}: {', '.join(map(str, one))}" for name, one in seeds.items())
    return [f"Cells have different pre-training seeds ({counts}); each mean is over the cell's own."]


def _others(places: Sequence[Path], runs: Sequence[RunResults]) -> list[Mapping[str, Any]]:
    """Return results of untrained weights and log-mel statistics: of a sweep's folder, else of the runs."""
    found: list[Mapping[str, Any]] = []
    for place in places:
        path = place / BASELINES
        if path.is_file():
            try:
                found += json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):  # they only stand below the table
                continue
    return found or [row for run in runs for row in run.others]

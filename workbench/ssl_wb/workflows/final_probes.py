"""The probes that a recipe asks for, after its training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ssl_wb.evaluation.runner import Row
    from ssl_wb.recipe.plugin_selection import ChosenEvaluator

__all__ = ["run_recipe_probes"]


def run_recipe_probes(folder: Path, *, quiet: bool, cpu: bool) -> list[Row]:
    """Probe a finished run as its recipe says, print the table and keep it in ``results.json``.

    Args:
        folder: the run folder.
        quiet: no progress on stderr.
        cpu: stay on the CPU where a GPU is at hand.
    """
    from ssl_wb.evaluation.runner import evaluate_runs
    from ssl_wb.recipe.load import load_recipe
    from ssl_wb.runs.device import best_device
    from ssl_wb.runs.folder import RunFolder
    from ssl_wb.tasks.task import load_task
    from ssl_wb.workflows.preflight import source_settings

    run = RunFolder(folder)
    loaded = load_recipe(run.resolved)
    wanted: dict[tuple[str, str | None], list[ChosenEvaluator]] = {}
    for chosen in loaded.evaluators:
        wanted.setdefault((chosen.task, chosen.section.metric), []).append(chosen)
    rows: list[Row] = []
    for (source, metric), several in wanted.items():
        task = load_task(source, metric=metric, settings=source_settings(loaded, run.path))
        evaluators = [(one.name, one.plugin(one.options)) for one in several]
        if not quiet:
            typer.echo(f"probing on {task.name}: {len(task.clips)} clips, {len(task.classes)} classes", err=True)
        rows += evaluate_runs([folder], [task], evaluators, device=best_device(cpu=cpu))
    if rows:
        from ssl_wb.report.tables import print_table

        run.write_json(run.results, [row.as_json() for row in rows])
        print_table(rows)
    return rows

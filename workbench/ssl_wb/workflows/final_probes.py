"""The probes that a recipe asks for, after its training."""

from __future__ import annotations

import logging

import torch

from ssl_wb.evaluation.results import Row
from ssl_wb.evaluation.runner import evaluate_runs
from ssl_wb.evaluation.score_files import write_scores
from ssl_wb.plugin.evaluator import Evaluator
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.plugin_selection import PluginSelection
from ssl_wb.runs.folder import RunFolder
from ssl_wb.workflows.preflight import Preflight

__all__ = ["run_final_probes"]

log = logging.getLogger("ssl_wb")


def run_final_probes(
    loaded: LoadedRecipe,
    preflight: Preflight,
    folder: RunFolder,
    device: torch.device,
    *,
    quiet: bool = False,
    baselines: bool = True,
) -> list[Row]:
    """Probe a finished run as its recipe says; keep results in ``results.json`` and test scores in ``scores.npz``.

    A probe that fails leaves the rows of the others; its error is raised after they are written.

    Args:
        loaded: the recipe.
        preflight: what it reads, with the tasks of its probes.
        folder: the run.
        device: where the encoder computes.
        quiet: log no progress.
        baselines: probe the untrained encoder and log-mel statistics, too.

    Returns:
        A row for each encoder, task and evaluator; none where the recipe has no probes.
    """
    # Evaluators of one task run together: its clips are embedded once.
    of_task: dict[tuple[str, str | None, str], list[PluginSelection[Evaluator]]] = {}
    for selection in loaded.evaluators:
        settings = selection.settings
        of_task.setdefault((settings.task, settings.metric, settings.pooling), []).append(selection)
    rows: list[Row] = []
    failures: list[Exception] = []
    for (_, _, pool), selections in of_task.items():
        task = preflight.task(selections[0].settings, folder)
        evaluators = [(one.name, one.plugin(one.options)) for one in selections]
        if not quiet:
            log.info("probing on %s: %d clips, %d classes", task.name, len(task.clips), len(task.classes))
        failed: list[Exception] = []
        try:
            rows += evaluate_runs(
                [folder.path],
                [task],
                evaluators,
                device=device,
                pool=pool,
                with_untrained=baselines,
                with_baselines=baselines,
                failures=failed,
            )
        except Exception as error:  # no probe of this task has a row
            failed = [error]
        failures += failed
    if rows:
        write_scores(folder.scores, [row for row in rows if row.role == "encoder"])
        folder.write_json(folder.results, [row.as_json() for row in rows])
    if failures:
        raise failures[0]
    return rows

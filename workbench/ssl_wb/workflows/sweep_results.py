"""What a sweep leaves beside its runs: a summary of them, their comparison, and results of untrained encoders."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ssl_wb.encoder.load import load_encoder
from ssl_wb.errors import UsageError, WorkbenchError
from ssl_wb.evaluation.baselines import baselines
from ssl_wb.evaluation.embedding_cache import encoder_digest, user_folder
from ssl_wb.evaluation.encoders import EMBEDDINGS
from ssl_wb.evaluation.results import Role
from ssl_wb.evaluation.runner import probe
from ssl_wb.files import write_atomically
from ssl_wb.plugin.evaluator import Encoder
from ssl_wb.report.layout import Layout
from ssl_wb.report.tables import layout_markdown
from ssl_wb.sweep.cells import Cell, Sweep
from ssl_wb.sweep.drive import Outcome
from ssl_wb.tasks.task import load_task
from ssl_wb.workflows.compare_runs import BASELINES, RunComparison, compare_runs
from ssl_wb.workflows.preflight import source_settings

__all__ = ["RESULTS", "TABLES", "summary_layout", "write_results"]

log = logging.getLogger("ssl_wb")

#: Results of a sweep as JSON and as Markdown, in its folder.
RESULTS, TABLES = "results.json", "results.md"
#: Probe seeds, as a run's own probes have.
SEEDS = (0, 1, 2)


def write_results(
    sweep: Sweep, folder: Path, outcomes: Mapping[str, Outcome], device: torch.device, say: Callable[[str], None]
) -> RunComparison | None:
    """Compare the complete runs and write ``results.json`` and ``results.md``.

    Args:
        sweep: its runs.
        folder: that holds them.
        outcomes: what became of each.
        device: where untrained encoders compute.
        say: told what happens.

    Returns:
        The comparison; None where no complete run has results.
    """
    complete = [cell for cell in sweep.cells if outcomes[cell.name].state == "complete"]
    probed = [cell for cell in complete if cell.recipe.evaluators]
    comparison = None
    if probed:
        _probe_baselines(probed, folder, device, say)
        try:
            comparison = compare_runs([folder / cell.name for cell in probed], sweep=folder)
        except UsageError as error:  # such as no results, because all evaluators failed
            log.warning("no comparison: %s", error.message)
    summary = summary_layout(sweep, outcomes)
    values = {
        "sweep": sweep.as_json(),
        "runs": {name: vars(outcome) for name, outcome in outcomes.items()},
        "comparison": comparison.as_json() if comparison is not None else None,
    }
    text = json.dumps(values, indent=2, ensure_ascii=False, default=str) + "\n"
    write_atomically(folder / RESULTS, text.encode("utf-8", "backslashreplace"))
    tables = [f"# {sweep.title or sweep.path.stem}", *(comparison.markdown() if comparison is not None else [])]
    write_atomically(folder / TABLES, "\n\n".join([*tables, "## Runs", layout_markdown(summary)]) + "\n")
    return comparison


def summary_layout(sweep: Sweep, outcomes: Mapping[str, Outcome]) -> Layout:
    """Arrange what became of each run; those that are not complete come first."""
    order = sorted(sweep.cells, key=lambda cell: outcomes[cell.name].state == "complete")
    rows = []
    for cell in order:
        one = outcomes[cell.name]
        why = " ".join(one.message.split())[-160:] if one.state == "failed" else ""
        trained = "before" if one.state == "complete" and not one.trained else f"{one.seconds:.0f} s"
        rows.append([cell.name, one.state, trained if one.state != "to do" else "", why])
    count = {state: sum(one.state == state for one in outcomes.values()) for state in ("complete", "failed")}
    notes = [f"{count['complete']} of {len(sweep.cells)} runs are complete, {count['failed']} failed."]
    if count["failed"]:
        notes.append("The output of a run is in logs/NAME.log. The same command tries failed runs again.")
    return Layout(["run", "state", "trained", "message"], rows, notes)


def _probe_baselines(cells: list[Cell], folder: Path, device: torch.device, say: Callable[[str], None]) -> None:
    """Probe log-mel statistics and untrained weights on the runs' tasks, each once for all runs, and keep the results.

    Results that are there from an earlier call are used again.
    """
    kept = _read(folder / BASELINES)
    known = {(row["digest"], row["task"], row["evaluator"], row["place"]) for row in kept}
    encoders: dict[str, tuple[str, Encoder, Path | None]] = {}
    for cell in cells:
        run = folder / cell.name
        fresh = load_encoder(run, untrained=True, device=device)
        encoders.setdefault(encoder_digest(fresh) or cell.name, (f"{cell.name}, untrained", fresh, run / EMBEDDINGS))
    for name, encoder in baselines().items():
        encoders[name] = (name, encoder, user_folder())
    for selection in cells[0].recipe.evaluators:
        section = selection.settings
        settings = source_settings(cells[0].recipe, folder / cells[0].name)
        task = None
        for digest, (name, encoder, cache) in encoders.items():
            place = f"{section.task}|{section.metric}|{section.pooling}|{selection.written_options}"
            if any(key[0] == digest and key[2:] == (selection.name, place) for key in known):
                continue
            if task is None:
                say(f"probing untrained encoders and log-mel statistics: {selection.name} on {Path(section.task).stem}")
                task = load_task(
                    section.task, metric=section.metric, settings=settings, allow_leaks=section.allow_leaks
                )
            role: Role = "untrained" if name.endswith(", untrained") else "baseline"
            evaluator = selection.plugin(selection.options)
            try:
                rows = probe({name: encoder}, [task], [(selection.name, evaluator)], SEEDS, None, {name: role}, cache)
            except WorkbenchError as error:
                log.warning("%s: %s", name, error.message)
                continue
            kept += [{**row.as_json(), "digest": digest, "place": place} for row in rows]
    write_atomically(folder / BASELINES, json.dumps(kept, indent=2, ensure_ascii=False, default=str) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return [row for row in rows if {"digest", "task", "evaluator", "place"} <= row.keys()]
    except (OSError, ValueError, AttributeError):
        return []  # not there, or damaged: they are probed anew

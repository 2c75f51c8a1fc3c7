"""``ssl-wb sweep``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli import completion
from ssl_wb.cli.output import JsonFlag, echo_json

__all__ = ["sweep"]


# More than fifty lines, most of them the options and their help.
def sweep(
    file: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP",
            help="Sweep file, or the name of a shipped sweep (ssl-wb recipes).",
            autocompletion=completion.sweeps,
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing; show the runs with steps, time, memory and disk.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of the sweep; sweeps/NAME unless given.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at a time, each in a process of its own.")] = 1,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="HOURS",
            help="Stop after so many hours, with checkpoints. Runs are trained seed by seed, so that what is done is a "
            "balanced comparison.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe in all runs. Repeatable."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Manifest to probe every run on, in place of the sweep's tasks. Repeatable."),
    ] = None,
    evaluator: Annotated[
        list[str] | None,
        typer.Option(
            help="Evaluator, in place of the sweep's evaluators. Repeatable.", autocompletion=completion.evaluators
        ),
    ] = None,
    cpu: Annotated[bool, typer.Option("--cpu", help="Stay on the CPU.")] = False,
    as_json: Annotated[bool, JsonFlag] = False,
) -> None:
    """Train the runs of a sweep, probe them, and compare them in one table.

    The state of a sweep is its run folders: the same command goes on with what is not complete, also after a kill.
    """
    from ssl_wb.errors import UsageError
    from ssl_wb.sweep.load import Changes

    if budget is not None and budget <= 0:
        raise UsageError(f"--budget {budget:g}: expected hours above 0")
    changes = Changes(tuple(settings or ()), tuple(task or ()), tuple(evaluator or ()))
    if dry_run:
        _show(file, changes, out, workers, cpu=cpu, as_json=as_json)
        return
    from ssl_wb.report.tables import draw
    from ssl_wb.workflows.sweep import run_sweep
    from ssl_wb.workflows.sweep_results import RESULTS, TABLES, summary_layout

    result = run_sweep(
        file,
        changes=changes,
        out=out,
        workers=workers,
        budget=budget,
        cpu=cpu,
        say=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        typer.echo((result.folder / RESULTS).read_text(encoding="utf-8"), nl=False)
    else:
        from rich.console import Console

        for layout in result.comparison.layouts() if result.comparison is not None else []:
            draw(layout, Console())
        if result.exit_code or result.comparison is None:
            draw(summary_layout(result.sweep, result.outcomes), Console())
    typer.echo(f"results: {result.folder / TABLES} and {RESULTS} beside it", err=True)
    failed = [name for name, one in result.outcomes.items() if one.state == "failed"]
    if failed:
        shown = ", ".join(failed[:3]) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")
        typer.echo(f"error: {len(failed)} of {len(result.outcomes)} runs failed: {shown}", err=True)
        typer.echo(f"hint: their output is in {result.folder / 'logs'}; the same command tries them again", err=True)
    elif result.exit_code:
        left = sum(one.state != "complete" for one in result.outcomes.values())
        typer.echo(f"{left} of {len(result.outcomes)} runs are not complete; the same command goes on", err=True)
    raise typer.Exit(result.exit_code)


def _show(file: str, changes: object, out: Path | None, workers: int, *, cpu: bool, as_json: bool) -> None:
    """Print what a sweep would train and take."""
    from rich.console import Console

    from ssl_wb.report.tables import draw
    from ssl_wb.sweep.load import Changes
    from ssl_wb.workflows.sweep_estimate import estimate_sweep

    assert isinstance(changes, Changes)
    found = estimate_sweep(
        file, changes=changes, out=out, workers=workers, cpu=cpu, say=lambda line: typer.echo(line, err=True)
    )
    if as_json:
        echo_json(found.as_json())
        return
    draw(found.layout(), Console())

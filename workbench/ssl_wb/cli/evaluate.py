"""``ssl-wb evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli import completion
from ssl_wb.cli.output import JsonFlag, echo_json
from ssl_wb.cli.progress import ProgressLines
from ssl_wb.errors import ExitCode, WorkbenchError

__all__ = ["evaluate"]


# More than fifty lines, most of them the options and their help.
def evaluate(
    encoder: Annotated[
        list[str],
        typer.Argument(
            help="Run folders, and external encoders: hear:MODULE[:WEIGHTS], xares:FILE.py[:CLASS], "
            "hf:NAME_OR_PATH of Hugging Face, python:MODULE:FUNCTION.",
        ),
    ],
    task: Annotated[list[Path], typer.Option(help="Manifest CSV with labels, or synthetic:scenes. Repeatable.")],
    evaluator: Annotated[
        list[str] | None,
        typer.Option(help="Name of an evaluator. Repeatable; linear.", autocompletion=completion.evaluators),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="EVALUATOR.KEY=VALUE",
            help="Option of an evaluator, as linear.lr=0.001.",
            autocompletion=completion.evaluator_settings,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=METRIC", help="Report another metric, as esc50='macro F1'. Repeatable."),
    ] = None,
    domain: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASK=DOMAIN", help="Group a task's column with others, as words=speech. Shipped tasks know theirs."
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Row to compare the others with: a run folder, or a name in the table.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of each probe.")] = 3,
    embedding: Annotated[
        str,
        typer.Option(
            help="What the embedding of a clip is: published (what the authors hand to a probe), folded, frames, "
            "clip-token or pooled."
        ),
    ] = "published",
    pool: Annotated[
        str,
        typer.Option(
            help="How the frames of a clip become one vector, for all rows alike: mean (as in the papers), mean+std, "
            "segments:N, or auto: chosen on validation clips."
        ),
    ] = "mean",
    untrained: Annotated[bool, typer.Option(help="Probe the weights each run started from, too.")] = True,
    baselines: Annotated[bool, typer.Option(help="Probe plain log-mel statistics, too.")] = True,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint to use: last, best or step-NUMBER.")] = "last",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    keep: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep embeddings, and use those kept.")] = True,
    allow_leaks: Annotated[
        bool,
        typer.Option(
            "--allow-leaks",
            help="Accept splits or folds with clips of one recording on both sides: scores get too high.",
        ),
    ] = False,
    chart: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Draw scores by layer (layers) and singular values (spectrum) as PNG."),
    ] = None,
    details: Annotated[
        bool,
        typer.Option("--details", help="Print further figures, too: other metrics, layers, clusters, ranks."),
    ] = False,
    timing: Annotated[bool, typer.Option("--timing", help="Tell what embedding and probing took.")] = False,
    as_json: Annotated[bool, JsonFlag] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a markdown table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a line per encoder, task and evaluator as CSV.")] = False,
) -> None:
    """Probe frozen encoders, of runs and external ones, on labelled clips, all in one table."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.report import tables
    from ssl_wb.workflows.evaluate import evaluate as evaluate_encoders

    console = Console(stderr=True)
    lines = ProgressLines(shown=not console.is_terminal)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        shown = bar.add_task("", total=None)

        def progress(what: str, done: int, total: int) -> None:
            bar.update(shown, description=what, completed=done, total=total)
            lines(what, done, total)

        evaluation = evaluate_encoders(
            encoder,
            task,
            evaluators=evaluator or ["linear"],
            settings=settings or [],
            metrics=metric or [],
            domains=domain or [],
            baseline=baseline,
            seeds=seeds,
            untrained=untrained,
            baselines=baselines,
            checkpoint=checkpoint,
            device=device,
            cache=keep,
            allow_leaks=allow_leaks,
            pool=pool,
            embedding=embedding,
            chart=chart,
            progress=progress,
        )
    rows, against = evaluation.rows, evaluation.baseline
    if as_json:
        echo_json(evaluation.as_json())
    elif as_markdown:
        typer.echo(tables.markdown(rows, against, details=details))
    elif as_csv:
        typer.echo(tables.as_csv(rows, against, details=details), nl=False)
    else:
        tables.print_table(rows, baseline=against, details=details, timing=timing)
    for path in evaluation.pictures:
        typer.echo(f"drawn: {path}", err=True)
    if chart is not None and not evaluation.pictures:
        typer.echo("nothing to draw: evaluators that leave a picture are layers and spectrum", err=True)
    if evaluation.failures:
        first = evaluation.failures[0]
        raise typer.Exit(int(first.exit_code if isinstance(first, WorkbenchError) else ExitCode.UNEXPECTED))

"""``ssl-wb compare`` and ``ssl-wb diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli import completion
from ssl_wb.cli.output import JsonFlag, echo_json, echo_table
from ssl_wb.cli.progress import ProgressLines

__all__ = ["compare", "diff"]


# More than fifty lines, most of them the options and their help.
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN|SWEEP...", help="Run folders, and folders that `ssl-wb sweep` made.")
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            help="Cell to compare the others with: its name or a run folder. Unless given, the sweep's baseline, or "
            "the first cell."
        ),
    ] = None,
    margin: Annotated[
        float, typer.Option(metavar="POINTS", help="Two cells are called equal if they are within so many points.")
    ] = 1.0,
    task: Annotated[
        list[Path] | None,
        typer.Option(help="Manifest to probe all runs on now, in place of the results they have. Repeatable."),
    ] = None,
    evaluator: Annotated[
        list[str] | None,
        typer.Option(help="Evaluator for --task. Repeatable; linear.", autocompletion=completion.evaluators),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="EVALUATOR.KEY=VALUE", help="Option of an evaluator, as linear.lr=0.001."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of each probe, for --task.")] = 3,
    device: Annotated[str | None, typer.Option(help="cpu or cuda, for --task; cuda where there is one.")] = None,
    as_json: Annotated[bool, JsonFlag] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print a line per cell, task and evaluator as CSV.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print tables for LaTeX, with booktabs.")] = False,
) -> None:
    """Compare probed runs: what differs in their recipes, and what it does to their scores.

    Runs whose recipes differ in the seed only are one cell. Means, intervals and tests are over pre-training seeds,
    probe seeds and test clips.
    """
    from rich.console import Console

    from ssl_wb.errors import UsageError
    from ssl_wb.report.comparison_tables import as_csv as csv_of
    from ssl_wb.report.latex import latex
    from ssl_wb.report.tables import draw
    from ssl_wb.workflows.compare_runs import Probing, compare_runs

    if not task and (evaluator or settings):
        raise UsageError("--evaluator and --set belong to --task, and there is none", hint="add --task MANIFEST.csv")
    lines = ProgressLines(shown=True)
    probing = Probing(task or (), evaluator or ("linear",), settings or (), seeds, device=device, progress=lines)
    found = compare_runs(runs, baseline=baseline, margin=margin, probing=probing)
    if as_json:
        echo_json(found.as_json())
    elif as_csv:
        typer.echo(csv_of(found.found), nl=False)
    elif as_markdown:
        typer.echo("\n\n".join(found.markdown()))
    elif as_latex:
        typer.echo("\n\n".join(map(latex, found.layouts())))
    else:
        for layout in found.layouts():
            draw(layout, Console())


def diff(
    left: Annotated[str, typer.Argument(metavar="A", help="Run folder, recipe file or name of a shipped recipe.")],
    right: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    as_json: Annotated[bool, JsonFlag] = False,
) -> None:
    """Show in what two recipes or runs differ: keys, plugin versions, data, environment."""
    from ssl_wb.workflows.diff import diff as diff_of

    found = diff_of(left, right)
    if as_json:
        echo_json(found.as_json())
        return
    rows = [[part, one.key, *one.texts()] for part, several in found.parts.items() for one in several]
    if rows:
        echo_table(["PART", "KEY", "A", "B"], rows)
    else:
        typer.echo("no difference")
    for note in found.notes:
        typer.echo(note, err=True)

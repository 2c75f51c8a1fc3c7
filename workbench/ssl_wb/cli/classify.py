"""``ssl-wb classify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_wb.cli.output import JsonFlag, echo_json, echo_table
from ssl_wb.cli.progress import ProgressLines

if TYPE_CHECKING:
    from ssl_wb.workflows.classify import Classification

__all__ = ["classify"]


def classify(
    run: Annotated[str, typer.Argument(help="Run folder of a recipe with the objective clap.")],
    audio: Annotated[list[str], typer.Argument(help="Files, folders or manifests.")],
    labels: Annotated[str, typer.Option(help="Class names, as dog,siren,rain, or a text file with one a line.")],
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="Sentence of a label, which takes the place of {}. Repeatable: averaged. {} can be heard."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Labels shown of each clip.")] = 3,
    out: Annotated[Path | None, typer.Option(help="CSV file to write, with the probability of every label.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint to use: last, best or step-NUMBER.")] = "last",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    as_json: Annotated[bool, JsonFlag] = False,
) -> None:
    """Name sounds without training: which of your labels each clip is most similar to."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.workflows.classify import PROMPT, read_labels
    from ssl_wb.workflows.classify import classify as classify_files

    console = Console(stderr=True)
    lines = ProgressLines(shown=not console.is_terminal)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        shown = bar.add_task("classifying", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(shown, completed=done, total=total)
            lines("classifying", done, total)

        found = classify_files(
            run,
            audio,
            read_labels(labels),
            prompts=prompt or [PROMPT],
            checkpoint=checkpoint,
            device=device,
            out=out,
            progress=progress,
        )
    _show(found, top, out, as_json=as_json)


def _show(found: Classification, top: int, out: Path | None, *, as_json: bool) -> None:
    """Print what was found, and what could not be read."""
    for message in found.skipped:
        typer.echo(f"skipped: {message}", err=True)
    if as_json:
        echo_json(found.as_json())
    elif out is None:
        best = [found.best(row, top) for row in range(len(found.clips))]
        columns = ["file", "start", *(f"{number}." for number in range(1, len(best[0]) + 1))]
        rows = [
            [str(clip.path), f"{clip.start:g}", *(f"{label} ({100 * value:.0f} %)" for label, value in one)]
            for clip, one in zip(found.clips, best, strict=True)
        ]
        echo_table(columns, rows, optional=["start"])
    if out is not None:
        typer.echo(f"{out}: {len(found.clips)} clips, {len(found.labels)} labels", err=True)

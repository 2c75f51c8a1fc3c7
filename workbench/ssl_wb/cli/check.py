"""``ssl-wb check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ssl_wb.cli.embed import Embedding
from ssl_wb.cli.output import JsonFlag, echo_json, echo_table
from ssl_wb.errors import ExitCode

if TYPE_CHECKING:
    from ssl_wb.encoder.check.passport import Passport

__all__ = ["check"]


def check(
    encoder: Annotated[
        str,
        typer.Argument(
            help="Run folder, encoder folder, checkpoint or hf://OWNER/NAME; or an external encoder: "
            "hear:MODULE[:WEIGHTS], xares:FILE.py[:CLASS], hf:NAME_OR_PATH of Hugging Face, python:MODULE:FUNCTION.",
        ),
    ],
    audio: Annotated[
        list[str] | None,
        typer.Option(
            help="File, folder or manifest to take test clips from; synthetic clips unless given. Repeatable."
        ),
    ] = None,
    embedding: Annotated[
        Embedding,
        typer.Option(help="Embedding of a clip: what the authors hand to a probe, or one of the others."),
    ] = Embedding.PUBLISHED,
    longest: Annotated[float, typer.Option(help="Seconds of the longest clip it is given.")] = 60.0,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint to use: last, best or step-NUMBER.")] = "last",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    as_json: Annotated[bool, JsonFlag] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, as for a model card.")] = False,
) -> None:
    """Measure what an encoder's embeddings depend on: padding, batch, level, length, time; exit code 1 for a fault."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.workflows.check import check as check_encoder

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        shown = bar.add_task("checking", total=None)
        passport = check_encoder(
            encoder,
            audio or [],
            embedding=embedding.value,
            checkpoint=checkpoint,
            device=device,
            longest=longest,
            progress=lambda done, total: bar.update(shown, completed=done, total=total),
        )
    _show(passport, as_json=as_json, as_markdown=as_markdown)


def _show(passport: Passport, *, as_json: bool, as_markdown: bool) -> None:
    """Print a passport; leave with exit code 1 if it holds a fault."""
    from ssl_wb.report.passport import COLUMNS, cells, facts, passport_markdown

    if as_json:
        echo_json(passport.as_json())
    elif as_markdown:
        typer.echo(passport_markdown(passport))
    else:
        echo_table(COLUMNS, cells(passport))
        typer.echo(f"{passport.encoder}: {facts(passport)}", err=True)
    if passport.faults:
        count = passport.faults
        typer.echo(f"{passport.encoder}: {count} fault{'' if count == 1 else 's'}", err=True)
        raise typer.Exit(ExitCode.UNEXPECTED)

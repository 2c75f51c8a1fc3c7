"""``ssl-wb average``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli.encoder_folders import Licence, Overwrite

__all__ = ["average"]


def average(
    encoder: Annotated[list[str], typer.Argument(help="Run folders or encoder folders; one run with --last.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    last: Annotated[int | None, typer.Option(help="Average this many of the newest checkpoints of a run.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint of runs: last, best or step-NUMBER.")] = "last",
    licence: Licence = None,
    overwrite: Overwrite = False,
) -> None:
    """Average the weights of runs that started alike, or of a run's last checkpoints, into an encoder folder."""
    from ssl_wb.workflows.average import average_encoders

    parts = average_encoders(encoder, out, last=last, checkpoint=checkpoint, licence=licence, overwrite=overwrite)
    typer.echo(f"{out}: {parts.about['title']}", err=True)
    typer.echo(f"next: ssl-wb evaluate {out} {' '.join(encoder)} --task TASK.csv", err=True)

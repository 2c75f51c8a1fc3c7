"""``ssl-wb embed``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["embed"]


class Level(StrEnum):
    """What a row of the output stands for."""

    CLIP = "clip"
    FRAMES = "frames"


def embed(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    audio: Annotated[list[str], typer.Argument(help="Files, folders or manifests.")],
    out: Annotated[Path, typer.Option(help="File to write: .npz or .parquet.")],
    level: Annotated[Level, typer.Option(help="One row per clip, or one per frame.")] = Level.CLIP,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Tell for each row how far the hypotheses lie apart where it is hidden."),
    ] = False,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint to use: last or best.")] = "last",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Embed audio with a pre-trained encoder."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.encoder.files import check_ending, embed_clips, gather_clips, write_embeddings
    from ssl_wb.encoder.load import load_encoder
    from ssl_wb.encoder.uncertainty import load_held_out
    from ssl_wb.errors import UsageError
    from ssl_wb.train.precision import best_device

    check_ending(out)
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is already there", hint="--overwrite replaces it")
    where = device or best_device()
    held_out = load_held_out(run, checkpoint=checkpoint, device=where) if uncertainty else None
    encoder = held_out.encoder if held_out else load_encoder(run, checkpoint=checkpoint, device=where)
    clips = gather_clips(audio)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("embedding", total=len(clips))
        embeddings = embed_clips(
            encoder,
            clips,
            level=level.value,
            held_out=held_out,
            progress=lambda done: bar.update(task, completed=done),
        )
    write_embeddings(out, embeddings)
    for message in embeddings.skipped:
        typer.echo(f"skipped: {message}", err=True)
    rows, dim = embeddings.values.shape
    typer.echo(
        f"{out}: {rows} embeddings of {dim} values from {len(clips) - len(embeddings.skipped)} clips",
        err=True,
    )

"""``ssl-wb embed``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ssl_wb.encoder.encoder import FrozenEncoder
    from ssl_wb.encoder.external.base import ExternalEncoder

__all__ = ["embed"]


class Level(StrEnum):
    """What a row of the output stands for."""

    CLIP = "clip"
    FRAMES = "frames"


def embed(
    encoder: Annotated[
        str,
        typer.Argument(
            help="Run folder, or an encoder from elsewhere: hear:MODULE[:WEIGHTS], xares:FILE.py[:CLASS], "
            "hf:NAME_OR_PATH of Hugging Face, python:MODULE:FUNCTION.",
        ),
    ],
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
    """Embed audio with a pre-trained encoder, of a run or from elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.encoder.external import is_external, load_external
    from ssl_wb.encoder.files import check_ending, embed_clips, gather_clips, write_embeddings
    from ssl_wb.encoder.load import load_encoder
    from ssl_wb.encoder.uncertainty import load_uncertainty
    from ssl_wb.errors import UsageError
    from ssl_wb.runs.device import best_device

    check_ending(out)
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is already there", hint="--overwrite replaces it")
    where = device or best_device()
    foreign = is_external(encoder)
    if foreign and uncertainty:
        raise UsageError(f"{encoder}: --uncertainty asks a run's objectives", hint="leave it out, or give a run folder")
    held_out = load_uncertainty(encoder, checkpoint=checkpoint, device=where) if uncertainty else None
    if held_out is not None:
        loaded: FrozenEncoder | ExternalEncoder = held_out.encoder
    elif foreign:
        loaded = load_external(encoder, where)
    else:
        loaded = load_encoder(encoder, checkpoint=checkpoint, device=where)
    clips = gather_clips(audio)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("embedding", total=len(clips))
        embeddings = embed_clips(
            loaded,
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

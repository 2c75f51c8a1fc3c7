"""``ssl-wb embed``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ssl_wb.cli.progress import ProgressLines

if TYPE_CHECKING:
    from ssl_wb.encoder.files import Embeddings

__all__ = ["embed"]


class Level(StrEnum):
    """What a row of the output stands for."""

    CLIP = "clip"
    FRAMES = "frames"


class Embedding(StrEnum):
    """What the embedding of a clip is."""

    PUBLISHED = "published"
    FOLDED = "folded"
    FRAMES = "frames"
    CLIP_TOKEN = "clip-token"
    POOLED = "pooled"


# One argument for each option, with its help: more than fifty lines.
def embed(
    encoder: Annotated[
        str,
        typer.Argument(
            help="Run folder, encoder folder, checkpoint or hf://OWNER/NAME; or an external encoder: "
            "hear:MODULE[:WEIGHTS], xares:FILE.py[:CLASS], hf:NAME_OR_PATH of Hugging Face, python:MODULE:FUNCTION.",
        ),
    ],
    audio: Annotated[list[str], typer.Argument(help="Files, folders or manifests.")],
    out: Annotated[Path, typer.Option(help="File to write: .npz or .parquet; .npy clip by clip.")],
    level: Annotated[Level, typer.Option(help="One row per clip, or one per frame.")] = Level.CLIP,
    embedding: Annotated[
        Embedding,
        typer.Option(help="Embedding of a clip: what the authors hand to a probe, or one of the others."),
    ] = Embedding.PUBLISHED,
    layer: Annotated[int | None, typer.Option(help="Embed with this layer, counted from 1: mean over frames.")] = None,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Add each row's uncertainty: the disagreement between hypotheses."),
    ] = False,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint to use: last, best or step-NUMBER.")] = "last",
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda where there is one.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a .npy file that was interrupted.")] = False,
) -> None:
    """Embed audio with a pre-trained encoder: a run's, or an external one."""
    from rich.console import Console
    from rich.progress import Progress

    from ssl_wb.workflows.embed import embed as embed_files

    console = Console(stderr=True)
    lines = ProgressLines(shown=not console.is_terminal)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("embedding", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            lines("embedding", done, total)

        embeddings = embed_files(
            encoder,
            audio,
            out,
            level=level.value,
            embedding=embedding.value,
            layer=layer,
            uncertainty=uncertainty,
            checkpoint=checkpoint,
            device=device,
            overwrite=overwrite,
            resume=resume,
            progress=progress,
        )
    _report(out, embeddings)


def _report(out: Path, embeddings: Embeddings) -> None:
    """Say what was written and what could not be read."""
    for message in embeddings.skipped:
        typer.echo(f"skipped: {message}", err=True)
    rows, dim = embeddings.values.shape
    typer.echo(f"{out}: {rows} embeddings of {dim} values from {embeddings.clips} clips", err=True)

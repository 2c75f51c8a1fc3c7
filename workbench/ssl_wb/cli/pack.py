"""``ssl-wb pack``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli.progress import ProgressLines

__all__ = ["pack"]

#: Clips that could not be read, shown before the rest is only counted.
SHOWN = 10


class Format(StrEnum):
    """How clips are encoded."""

    FLAC = "flac"
    WAV = "wav"


def pack(
    source: Annotated[Path, typer.Argument(help="Folder, manifest or saved data set.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not be there yet.")],
    sample_rate: Annotated[
        int | None,
        typer.Option(min=1000, max=384_000, metavar="HZ", help="Resample all clips; each keeps its rate unless given."),
    ] = None,
    encoding: Annotated[Format, typer.Option("--format", help="Encoding of the clips, 16 bit mono.")] = Format.FLAC,
) -> None:
    """Pack clips into a few large Arrow files, which data.train and the other commands read as they read a folder."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from ssl_wb.data.clips import load_clips
    from ssl_wb.data.loader import resolve_workers
    from ssl_wb.data.pack import pack_clips

    clips = load_clips(source)
    console = Console(stderr=True)
    lines = ProgressLines(shown=not console.is_terminal)
    columns = (TextColumn("packing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("packing", total=len(clips))

        def progress(done: int) -> None:
            bar.update(task, completed=done)
            lines("packing", done, len(clips))

        packed = pack_clips(
            clips,
            out.expanduser(),
            sample_rate=sample_rate,
            encoding=encoding.value,
            threads=resolve_workers("auto"),
            progress=progress,
        )
    for message in packed.skipped[:SHOWN]:
        typer.echo(f"skipped: {message}", err=True)
    if len(packed.skipped) > SHOWN:
        typer.echo(f"skipped: and {len(packed.skipped) - SHOWN} more", err=True)
    if packed.clipped:
        typer.echo(f"warning: {packed.clipped} clips go beyond full scale and were clipped to 16 bits", err=True)
    left_out = f", {len(packed.skipped)} could not be read" if packed.skipped else ""
    typer.echo(
        f"{out}: {packed.clips} of {len(clips)} clips, {packed.seconds / 3600:.2f} h, "
        f"{packed.bytes / 1e6:.1f} MB{left_out}",
        err=True,
    )

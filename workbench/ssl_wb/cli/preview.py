"""``ssl-wb preview``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli import completion
from ssl_wb.cli.arguments import Settings

__all__ = ["preview"]


def preview(
    recipe: Annotated[
        str,
        typer.Argument(help="Recipe file, name of a shipped recipe, or run folder.", autocompletion=completion.recipes),
    ],
    audio: Annotated[list[Path], typer.Option("--audio", metavar="FILE...", help="Audio files, one row each.")],
    out: Annotated[Path, typer.Option(help="File to draw: .png, .pdf or .svg.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="The audio files after the first.")] = None,
    masker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE,...]",
            help="Masker to draw, the recipe's own unless given. Repeatable. Its ratio is the recipe's unless given.",
            autocompletion=completion.maskers,
        ),
    ] = None,
    progress: Annotated[
        str, typer.Option(metavar="SHARE,...", help="Shares of training done, 0 to 1, one row each.")
    ] = "1",
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of crops and masks; the recipe's unless given.")] = None,
    checkpoint: Annotated[str, typer.Option(help="Checkpoint of a run to use: last, best or step-NUMBER.")] = "last",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
) -> None:
    """Draw what the student sees: clips with visible and masked patches, and each masker's importance of patches."""
    from ssl_wb.report.mask_pictures import draw_preview
    from ssl_wb.report.masks import prepare_masks
    from ssl_wb.report.picture_files import check_picture, save_picture

    shares = _shares(progress)
    check_picture(out, overwrite=overwrite)
    drawn = prepare_masks(
        recipe,
        [*audio, *(more or ())],
        overrides=settings or (),
        maskers=masker or (),
        progress=shares,
        seed=seed,
        checkpoint=checkpoint,
    )
    save_picture(draw_preview(drawn), out)
    rows, names = len(drawn.rows), ", ".join(column.label for column in drawn.columns)
    typer.echo(f"{out}: {rows} row{'' if rows == 1 else 's'}; {names}", err=True)


def _shares(text: str) -> list[float]:
    """Read ``0,0.5,1``."""
    from ssl_wb.errors import UsageError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--progress {text}: not a list of numbers", hint="as in --progress 0,0.5,1") from None

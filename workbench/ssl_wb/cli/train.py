"""``ssl-wb train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["train"]


def train(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a shipped recipe.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value, as train.steps=500. Repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME unless given.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away the run in the folder.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="Stay on the CPU.")] = False,
) -> None:
    """Pre-train an encoder, then run the recipe's probes and print their table."""
    from accelerate import PartialState

    from ssl_wb.cli.checks import check_sources
    from ssl_wb.cli.probes import run_recipe_probes
    from ssl_wb.recipe.load import load_recipe
    from ssl_wb.train.run import train as run

    if not resume:
        check_sources(load_recipe(recipe, settings or ()))
    folder = run(recipe, overrides=settings or (), out=out, resume=resume, overwrite=overwrite, quiet=quiet, cpu=cpu)
    if PartialState().is_main_process:
        run_recipe_probes(folder, quiet=quiet, cpu=cpu)
        typer.echo(f"run folder: {folder}", err=True)

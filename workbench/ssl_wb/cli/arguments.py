"""Arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from ssl_wb.cli import completion

__all__ = ["Recipe", "Settings"]

Recipe = Annotated[
    str,
    typer.Argument(help="Recipe file, or the name of a shipped recipe.", autocompletion=completion.recipes),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a value of the recipe, as train.steps=500. Repeatable.",
        autocompletion=completion.settings,
    ),
]

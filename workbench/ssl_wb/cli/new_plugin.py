"""``ssl-wb new-plugin``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli import completion

__all__ = ["new_plugin"]


def new_plugin(
    kind: Annotated[
        str, typer.Argument(help="Kind of plugin, as masker or evaluator.", autocompletion=completion.kinds)
    ],
    name: Annotated[str, typer.Argument(help="Name of the plugin in recipes, as my-masker.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to make; ssl-wb-NAME in the current folder unless given.")
    ] = None,
) -> None:
    """Write the project of a new plugin: a working plugin of its kind, its tests, a recipe and the packaging."""
    from ssl_wb.scaffold.project import write_project

    folder = write_project(kind, name, out)
    typer.echo(str(folder))
    typer.echo(f"next: pip install -e '{folder}[test]', then see {folder / 'README.md'}", err=True)

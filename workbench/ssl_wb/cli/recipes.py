"""``ssl-wb recipes``: list, show and copy the recipes and sweeps that come with the workbench and its plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ssl_wb.cli import completion
from ssl_wb.cli.output import JsonFlag, echo_json, echo_table
from ssl_wb.errors import UsageError

__all__ = ["app"]

app = typer.Typer(help="List, show and copy the shipped recipes and sweeps; without a subcommand, list them.")

#: What the names of sweeps begin with in the list.
SWEEPS = "sweeps/"

Name = Annotated[
    str, typer.Argument(help="Name of a shipped recipe, or sweeps/NAME.", autocompletion=completion.recipes)
]


@app.callback(invoke_without_command=True)
def _without_subcommand(context: typer.Context, as_json: Annotated[bool, JsonFlag] = False) -> None:
    if context.invoked_subcommand is None:
        list_recipes(as_json)
    elif as_json:
        raise UsageError("--json stands after the word", hint="ssl-wb recipes list --json")


@app.command("list")
def list_recipes(as_json: Annotated[bool, JsonFlag] = False) -> None:
    """List the shipped recipes, then the shipped sweeps, whose names begin with sweeps/."""
    from ssl_wb.recipe.files import shipped_recipes, shipped_sweeps

    found = [(name, _title(path), path) for name, path in shipped_recipes().items()]
    found += [(f"{SWEEPS}{name}", _title(path), path) for name, path in shipped_sweeps().items()]
    if as_json:
        echo_json([{"name": name, "title": title, "path": str(path)} for name, title, path in found])
        return
    echo_table(["NAME", "TITLE"], [[name, title] for name, title, _ in found])


@app.command("show")
def show(name: Name) -> None:
    """Print a recipe or a sweep."""
    typer.echo(_read(name)[1], nl=False)


@app.command("copy")
def copy(name: Name, destination: Annotated[Path, typer.Argument(help="New file, or a folder.")]) -> None:
    """Copy a recipe or a sweep, to change it."""
    source, text = _read(name)
    target = destination / source.name if destination.is_dir() else destination
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{target} exists and is not overwritten", hint="name another file, or move it away") from None
    except OSError as failure:
        raise UsageError(
            f"cannot write {target}: {failure.strerror or failure}",
            hint="name a file in a folder that exists",
        ) from None
    typer.echo(str(target))


def _read(name: str) -> tuple[Path, str]:
    """Return the file and the text of a recipe."""
    from ssl_wb.recipe.files import find_recipe, find_sweep

    path = find_sweep(name) if name.startswith(SWEEPS) else find_recipe(name)
    try:
        return path, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise UsageError(f"cannot read {path}: {failure}", hint="a recipe is a TOML file in UTF-8") from None


def _title(path: Path) -> str:
    """Return the ``title`` in a recipe; nothing where the file cannot be read, which `validate` reports."""
    import tomli

    try:
        return str(tomli.loads(path.read_text(encoding="utf-8")).get("title", ""))
    except (OSError, ValueError):  # a TOML or UTF-8 mistake is a ValueError
        return ""

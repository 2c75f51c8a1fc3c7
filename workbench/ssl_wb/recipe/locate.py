"""Where recipes are: files, the ones shipped with the workbench, and those of plugins."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_wb.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from ssl_wb.plugin.registry import Registry

__all__ = ["bundled_recipes", "find_recipe", "find_shipped", "shipped_recipes"]


def _recipe_folder(package: Path) -> Path:
    """Return the folder of the bundled recipes.

    A checkout's ``recipes/`` comes first: beside an editable install, a copy left by a wheel would be stale.
    """
    checkout = package.parent.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "recipes").is_dir():
        return checkout / "recipes"
    return package / "shipped_recipes"


def bundled_recipes(package: Path | None = None) -> dict[str, Path]:
    """Return the workbench's own recipes by name, from the checkout or from the installed wheel.

    Args:
        package: folder of the package ``ssl_wb``; the imported one unless given.
    """
    folder = _recipe_folder(package or Path(str(files("ssl_wb"))))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def shipped_recipes(registry: Registry | None = None) -> dict[str, Path]:
    """Return every shipped recipe by name: the bundled ones, then those of plugins.

    A plugin's recipe goes by its file name, or by ``distribution/name`` where that name is taken.

    Args:
        registry: the plugins; the installed ones unless given.
    """
    if registry is None:
        from ssl_wb.plugin.registry import load_registry

        registry = load_registry()
    found = bundled_recipes()
    for distribution, path in registry.recipes():
        found[path.stem if path.stem not in found else f"{distribution}/{path.stem}"] = path
    return found


def find_recipe(name_or_path: str | Path, *, registry: Registry | None = None) -> Path:
    """Find a recipe file.

    Args:
        name_or_path: a file, which wins; else the name of a shipped recipe, with or without ``.toml``.
        registry: the plugins; the installed ones unless given.

    Returns:
        Its absolute path.

    Raises:
        UsageError: nothing is there, or it is a folder; names the nearest shipped recipe.
    """
    path = Path(os.path.expanduser(name_or_path))  # noqa: PTH111 - Path.expanduser raises on an unknown user
    if path.is_file():
        return path.absolute()
    if path.is_dir():
        raise UsageError(f"{name_or_path} is a folder, not a recipe file", hint="name a .toml file in it")
    return find_shipped(str(name_or_path), registry=registry)


def find_shipped(name: str, *, registry: Registry | None = None) -> Path:
    """Find a shipped recipe by name.

    Args:
        name: as :func:`shipped_recipes` lists it, with or without ``.toml``.
        registry: the plugins; the installed ones unless given.

    Returns:
        Its absolute path.

    Raises:
        UsageError: no recipe has that name; names the nearest one.
    """
    stem = name.removesuffix(".toml")
    bundled = bundled_recipes()
    if stem in bundled:  # before plugins are asked: importing them takes seconds
        return bundled[stem]
    shipped = shipped_recipes(registry)
    if stem in shipped:
        return shipped[stem].absolute()
    raise UsageError(
        f"no file and no shipped recipe is called {name!r}{did_you_mean(stem, shipped)}",
        hint=f"shipped recipes: {', '.join(shipped)}" if shipped else "",
    )

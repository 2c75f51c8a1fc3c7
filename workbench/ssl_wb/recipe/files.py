"""Recipe files: where they are, what they extend, and the paths written in them."""

from __future__ import annotations

import os
from collections.abc import Collection
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli

from ssl_wb.errors import UsageError, did_you_mean
from ssl_wb.plugin.places import installed_sources, schemes_of
from ssl_wb.recipe.problems import Problem
from ssl_wb.recipe.tree import Location, Origin, key_lines, shown_path

if TYPE_CHECKING:
    from ssl_wb.plugin.registry import Registry

__all__ = [
    "Chain",
    "Layer",
    "absolute",
    "absolute_paths",
    "bundled_recipes",
    "find_recipe",
    "find_shipped",
    "find_sweep",
    "is_path",
    "read_chain",
    "read_document",
    "shipped_recipes",
    "shipped_sweeps",
]


def absolute(text: str, base: Path, schemes: Collection[str] = ()) -> str:
    """Make a recipe's path absolute.

    Args:
        text: as written; ``~`` is the home folder. Text with one of the schemes and an empty text stay, for the checks.
        base: folder that relative paths start from.
        schemes: those of installed sources, as ``synthetic`` of ``synthetic:scenes``.
    """
    scheme, colon, _ = text.partition(":")
    if not text or (colon and scheme in schemes) or text.startswith("hf://"):
        return text
    path = base / os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises on an unknown user
    # Symbolic links stay as written, except where ".." makes their targets matter.
    return str(path.resolve() if ".." in path.parts else path.absolute())


def is_path(at: Location) -> bool:
    """Whether the value at ``at`` is a place of clips: a file or folder, or text that a source knows."""
    return at == ("data", "train") or (len(at) == 3 and at[0] == "evaluate" and at[2] == "task")


def absolute_paths(value: Any, at: Location, base: Path, schemes: Collection[str] = ()) -> Any:
    """Return a copy of ``value`` with its paths made absolute.

    Args:
        value: what is written at ``at``, a table or a single value.
        at: its place in the recipe.
        base: folder that relative paths start from.
        schemes: those of installed sources; text with one of them is no path.
    """
    if isinstance(value, dict):
        return {key: absolute_paths(item, (*at, key), base, schemes) for key, item in value.items()}
    if isinstance(value, list):
        return [absolute_paths(item, (*at, index), base, schemes) for index, item in enumerate(value)]
    # Among an augmentation's options, sounds_path and the like are paths, or lists of them.
    sounds = at[:2] == ("data", "augment") and len(at) in (4, 5) and str(at[3]).endswith("_path")
    named = is_path(at) or at == ("init", "from") or sounds
    return absolute(value, base, schemes) if isinstance(value, str) and named else deepcopy(value)


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


def shipped_sweeps(package: Path | None = None) -> dict[str, Path]:
    """Return the workbench's own sweeps by name; arguments as of :func:`bundled_recipes`."""
    folder = _recipe_folder(package or Path(str(files("ssl_wb")))) / "sweeps"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_sweep(name_or_path: str | Path) -> Path:
    """Find a sweep file: a file, which wins, else the name of a shipped sweep, with or without ``.toml``.

    Raises:
        UsageError: nothing is there, or it is a folder; names the nearest shipped sweep.
    """
    path = Path(os.path.expanduser(name_or_path))  # noqa: PTH111 - Path.expanduser raises on an unknown user
    if path.is_file():
        return path.absolute()
    if path.is_dir():
        raise UsageError(f"{name_or_path} is a folder, not a sweep file", hint="name a .toml file in it")
    shipped, stem = shipped_sweeps(), str(name_or_path).removesuffix(".toml").removeprefix("sweeps/")
    if stem in shipped:
        return shipped[stem]
    raise UsageError(
        f"no file and no shipped sweep is called {str(name_or_path)!r}{did_you_mean(stem, shipped)}",
        hint=f"shipped sweeps: {', '.join(shipped)}",
    )


@dataclass(frozen=True)
class Layer:
    """One file of a chain.

    Attributes:
        path: the file.
        source: its text.
        data: its values without ``extends``, paths absolute.
        lines: line of each key.
    """

    path: Path
    source: str
    data: dict[str, Any]
    lines: dict[Location, int]

    def origin(self, at: Location) -> Origin:
        """Return the line on which the value at ``at`` is written, or the nearest table around it."""
        while at and at not in self.lines:
            at = at[:-1]
        return Origin(file=self.path, line=self.lines.get(at))


@dataclass
class Chain:
    """A recipe and its parents, itself first, and what is wrong with them.

    Attributes:
        layers: the files that could be read.
        problems: why the others could not; empty when the chain is whole.
    """

    layers: list[Layer] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_document(path: Path) -> tuple[str, dict[str, Any]] | Problem:
    """Read a TOML file and return its text and values; a problem names the file, line and column."""
    try:
        source = path.read_text(encoding="utf-8-sig")
        return source, tomli.loads(source)
    except tomli.TOMLDecodeError as error:
        origin = Origin(file=path, line=error.lineno)
        fault = error.msg[:1].lower() + error.msg[1:]
        return Problem(origin, (), f"not valid TOML at line {error.lineno}, column {error.colno}: {fault}", "syntax")
    except UnicodeDecodeError as error:
        return Problem(Origin(file=path), (), f"not UTF-8 text (byte {error.start}); save it as UTF-8", "syntax")
    except OSError as error:
        return Problem(Origin(file=path), (), f"cannot be read: {error.strerror or error}", "syntax")


def _parent(written: Any, child: Path, origin: Origin, registry: Registry) -> Path | Problem:
    """Find the file that ``extends`` names: beside the child, or shipped."""
    if not isinstance(written, str) or not written:
        return Problem(origin, ("extends",), "expected the path or name of one recipe, in quotes", "extends")
    beside = Path(absolute(written, child.parent))
    if beside.is_file():
        return beside
    try:
        return find_shipped(written, registry=registry)
    except UsageError as error:
        return Problem(origin, ("extends",), f"{error.message} (looked for {shown_path(beside)})", "extends")


def read_chain(path: Path, registry: Registry) -> Chain:
    """Read a recipe file and everything it extends.

    Args:
        path: absolute path of the recipe.
        registry: plugins, whose recipes may be extended by name.
    """
    chain, schemes = Chain(), schemes_of(installed_sources(registry))
    seen: list[Path] = []
    current: Path | None = path
    while current is not None:
        seen.append(current.resolve())
        content = read_document(current)
        if isinstance(content, Problem):
            chain.problems.append(content)
            break
        source, data = content
        lines = key_lines(source)
        extends = data.pop("extends", None)
        chain.layers.append(Layer(current, source, absolute_paths(data, (), current.parent, schemes), lines))
        if extends is None:
            break
        origin = Origin(file=current, line=lines.get(("extends",)))
        parent = _parent(extends, current, origin, registry)
        if isinstance(parent, Path) and parent.resolve() in seen:
            circle = " -> ".join(shown_path(step) for step in [*seen, parent.resolve()])
            parent = Problem(origin, ("extends",), f"goes in a circle: {circle}", "extends")
        if isinstance(parent, Problem):
            chain.problems.append(parent)
            break
        current = parent
    return chain

"""A recipe file and the files it extends."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli

from ssl_wb.errors import UsageError
from ssl_wb.recipe.locate import find_shipped
from ssl_wb.recipe.origins import Location, Origin, key_lines, shown_path
from ssl_wb.recipe.paths import absolute, absolute_paths
from ssl_wb.recipe.problems import Problem

if TYPE_CHECKING:
    from ssl_wb.plugin.registry import Registry

__all__ = ["Chain", "Layer", "read_chain"]


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


def _read(path: Path) -> tuple[str, dict[str, Any]] | Problem:
    """Read one file; a problem names the file, line and column."""
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
    chain = Chain()
    seen: list[Path] = []
    current: Path | None = path
    while current is not None:
        seen.append(current.resolve())
        content = _read(current)
        if isinstance(content, Problem):
            chain.problems.append(content)
            break
        source, data = content
        lines = key_lines(source)
        extends = data.pop("extends", None)
        chain.layers.append(Layer(current, source, absolute_paths(data, (), current.parent), lines))
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

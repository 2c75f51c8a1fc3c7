"""Maskers as they are typed on a command line: ``name`` or ``name:key=value,key=value``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from ssl_wb.errors import PluginError, RecipeError
from ssl_wb.plugin.masker import Masker
from ssl_wb.plugin.registry import Registry, load_registry
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.origins import Origin
from ssl_wb.recipe.overrides import parse_value
from ssl_wb.recipe.plugin_selection import choose
from ssl_wb.recipe.problems import Problem
from ssl_wb.recipe.tree import Tree

__all__ = ["LabelledMasker", "maskers_of"]

_AT = ("masker",)
#: A comma parts two options where a key follows; others belong to a list.
_COMMA = re.compile(r",(?=\s*[A-Za-z_]\w*\s*=)")


@dataclass(frozen=True)
class LabelledMasker:
    """A masker under the name it was asked for."""

    label: str
    masker: Masker


@dataclass(frozen=True)
class _Typed(Origin):
    """A masker given on the command line; ``override`` is its text."""

    def __str__(self) -> str:
        return f"--masker {self.override}"


def maskers_of(
    loaded: LoadedRecipe, wanted: Sequence[str], *, registry: Registry | None = None
) -> list[LabelledMasker]:
    """Build maskers from their texts.

    The recipe's masker keeps the recipe's options but for those given; another one takes the recipe's ``ratio``, where
    both have one and none is given, and its own defaults.

    Args:
        loaded: the recipe.
        wanted: ``name`` or ``name:key=value,key=value``, values as in TOML; the recipe's own masker when empty.
        registry: the plugins; the installed ones unless given.

    Raises:
        RecipeError: unknown maskers, unknown options or values that cannot be; all are told.
    """
    if not wanted:
        return [LabelledMasker(loaded.masker.name, loaded.masker.plugin(loaded.masker.options))]
    plugins = registry or load_registry()
    problems: list[Problem] = []
    found = [_built(loaded, text, plugins, problems) for text in wanted]
    if problems:
        raise RecipeError([str(problem) for problem in problems], where="--masker")
    return [one for one in found if one is not None]


def _built(loaded: LoadedRecipe, text: str, registry: Registry, problems: list[Problem]) -> LabelledMasker | None:
    """Build one masker; None, with ``problems`` told, where that is impossible."""
    origin = _Typed(override=text)
    name, _, written = text.partition(":")
    given: dict[str, Any] = {}
    for part in _COMMA.split(written) if written.strip() else ():
        key, equals, value = part.partition("=")
        if not (equals and key.strip()):
            fault = f"expected name:key=value,key=value, found {part.strip()!r} behind the name"
            problems.append(Problem(origin, (), fault, "masker"))
            return None
        given[key.strip()] = parse_value(value)
    tree = Tree(loaded.path)
    recipe = {"name": loaded.masker.name, **loaded.masker.section.options}
    tree.overlay((), {"masker": recipe}, lambda _: Origin(file=loaded.path))
    tree.overlay(_AT, {"name": name.strip(), **_ratio(loaded, name.strip(), registry), **given}, lambda _: origin)
    choice = choose("masker", _AT, tree, registry, problems)
    if choice is None or choice.options is None:
        return None
    return LabelledMasker(text, cast(type[Masker], choice.plugin)(choice.options))


def _ratio(loaded: LoadedRecipe, name: str, registry: Registry) -> dict[str, Any]:
    """Return the recipe's mask ratio as an option, where the recipe and the masker ``name`` have one."""
    ratio = loaded.masker.section.options.get("ratio")
    try:
        takes_one = "ratio" in registry.get("masker", name).Options.model_fields
    except PluginError:  # told when it is chosen
        return {}
    return {"ratio": ratio} if takes_one and ratio is not None else {}

"""Maskers named on the command line, built for a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssl_wb.errors import PluginError, RecipeError
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.plugin.masker import Masker
from ssl_wb.plugin.registry import Registry, load_registry
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.overrides import MaskerArgument, parse_maskers
from ssl_wb.recipe.plugin_selection import select
from ssl_wb.recipe.problems import Problem
from ssl_wb.recipe.tree import Origin, Tree

__all__ = ["LabelledMasker", "maskers_of"]


@dataclass(frozen=True)
class LabelledMasker:
    """A masker and its text on the command line."""

    label: str
    masker: Masker


class _MaskerOption(Origin):
    """A masker given on the command line; ``override`` is its text."""

    def __str__(self) -> str:
        return f"--masker {self.override}"


def maskers_of(loaded: LoadedRecipe, wanted: Sequence[str]) -> list[LabelledMasker]:
    """Build maskers from their texts.

    The recipe's masker starts from the recipe's options. Any other masker starts from its own defaults; only its
    ``ratio`` comes from the recipe, if both have one.

    Args:
        loaded: the recipe.
        wanted: ``name`` or ``name:key=value,key=value``, values as in TOML; the recipe's own masker when empty.

    Raises:
        RecipeError: unknown maskers, unknown options or wrong values, all in one report.
    """
    if not wanted:
        return [LabelledMasker(loaded.masker.name, loaded.masker.plugin(loaded.masker.options))]
    registry = load_registry()
    problems: list[Problem] = []
    built: list[LabelledMasker] = []
    for text in wanted:
        try:
            arguments = parse_maskers(text)
        except ValueError as error:
            problems.append(Problem(_MaskerOption(override=text), (), str(error), "masker"))
            continue
        for argument in arguments:
            masker = _build(loaded, argument, registry, problems)
            built += [] if masker is None else [LabelledMasker(argument.text, masker)]
    if problems:
        raise RecipeError([str(problem) for problem in problems], where="--masker")
    return built


def _build(
    loaded: LoadedRecipe, argument: MaskerArgument, registry: Registry, problems: list[Problem]
) -> Masker | None:
    """Build one masker; on a mistake, return None and add to ``problems``."""
    origin = _MaskerOption(override=argument.text)
    options = loaded.masker.written_options
    # The recipe's section lies below what was typed, as for `--set`: a new name drops the recipe's options.
    tree = Tree(loaded.path)
    tree.overlay((), {"masker": {"name": loaded.masker.name, **options}}, lambda _: Origin(file=loaded.path))
    ratio = {"ratio": options["ratio"]} if options.get("ratio") is not None else {}
    try:
        if "ratio" not in registry.get("masker", argument.name).Options.model_fields:
            ratio = {}
    except PluginError:
        ratio = {}  # `select` reports the unknown name
    tree.overlay(("masker",), {"name": argument.name, **ratio, **argument.options}, lambda _: origin)
    selection = select(KINDS["masker"], ("masker",), tree, registry, problems)
    return None if selection is None else selection.build()

"""From a recipe file to a validated whole, with its plugins; every mistake reported at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from ssl_wb.errors import RecipeError, did_you_mean
from ssl_wb.plugin.base import Kind
from ssl_wb.recipe.augmentations import check_augmentations
from ssl_wb.recipe.chain import Chain, read_chain
from ssl_wb.recipe.locate import find_recipe
from ssl_wb.recipe.origins import Location, shown_path
from ssl_wb.recipe.overrides import apply_override, parse_override
from ssl_wb.recipe.paths import is_path
from ssl_wb.recipe.plugin_selection import (
    Choice,
    Chosen,
    ChosenEvaluator,
    ChosenObjective,
    caption_problems,
    cascade_problems,
    choose,
)
from ssl_wb.recipe.problems import Problem, check_model, found, key_text
from ssl_wb.recipe.schema import SYNTHETIC, AugmentSection, PluginSection, Recipe
from ssl_wb.recipe.tree import LIST_SECTIONS, Tree

if TYPE_CHECKING:
    from ssl_wb.plugin.backbone import Backbone
    from ssl_wb.plugin.masker import Masker
    from ssl_wb.plugin.registry import Registry

__all__ = ["Chosen", "ChosenEvaluator", "ChosenObjective", "LoadedRecipe", "load_recipe", "require_data"]

_KINDS: dict[str, Kind] = {
    "masker": "masker",
    "backbone": "backbone",
    "objective": "objective",
    "evaluate": "evaluator",
}


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe with everything resolved. Two are equal when they say the same, wherever they were read from.

    Attributes:
        path: the file.
        source: its text as given.
        overrides: the overrides as given.
        recipe: the sections, with every default and every plugin option written out, paths absolute.
        masker: the masker.
        backbone: the backbone.
        objectives: the objectives, in the order they run.
        evaluators: the probes after training.
    """

    path: Path = field(compare=False)
    source: str = field(compare=False)
    overrides: tuple[str, ...] = field(compare=False)
    recipe: Recipe
    masker: Chosen[Masker]
    backbone: Chosen[Backbone]
    objectives: list[ChosenObjective]
    evaluators: list[ChosenEvaluator]


def load_recipe(path: str | Path, overrides: Sequence[str] = (), *, registry: Registry | None = None) -> LoadedRecipe:
    """Read, merge and validate a recipe.

    Args:
        path: a file, or the name of a shipped recipe.
        overrides: ``key.path=value``, applied in order on top of the file and what it extends.
        registry: the plugins; the installed ones unless given.

    Raises:
        UsageError: there is no such recipe.
        RecipeError: the recipe has mistakes; all of them are in it.
        PluginError: a plugin crashed while checking its options.
    """
    if registry is None:
        from ssl_wb.plugin.registry import load_registry

        registry = load_registry()
    file = find_recipe(path, registry=registry)
    chain = read_chain(file, registry)
    problems = list(chain.problems)
    tree = _assemble(file, chain, overrides, problems)
    problems += _value_problems(tree, (), tree.data)
    recipe = check_model(Recipe, tree.data, (), tree, also=["extends"])
    if isinstance(recipe, list):
        problems += recipe
    choices = _choices(tree, registry, problems)
    objectives = [(at, choice) for at, choice in choices.items() if at[0] == "objective"]
    problems += cascade_problems(objectives, tree, registry) + caption_problems(objectives, tree)
    augment = check_augmentations(tree, problems)
    _raise_if_any(file, chain, overrides, problems)
    return _whole(cast(Recipe, recipe), choices, augment, file, chain.layers[0].source, tuple(overrides))


def require_data(loaded: LoadedRecipe) -> str:
    """Return what the recipe trains on: a folder or manifest, absolute, or the synthetic scenes.

    Raises:
        RecipeError: the recipe leaves ``data.train`` open.
    """
    train = loaded.recipe.data.train
    if train is None:
        fault = "data.train: no audio to train on, and this recipe leaves it to you"
        hint = f"add --set data.train=FOLDER (or a manifest CSV, or {SYNTHETIC})"
        raise RecipeError([f"{shown_path(loaded.path)}: {fault}; {hint}"], where=shown_path(loaded.path))
    return train


def _assemble(file: Path, chain: Chain, overrides: Sequence[str], problems: list[Problem]) -> Tree:
    """Merge the chain, parents first, and the overrides on top."""
    tree = Tree(file)
    for layer in reversed(chain.layers):
        tree.overlay((), layer.data, layer.origin)
    for text in overrides:
        parsed = parse_override(text)
        problem = parsed if isinstance(parsed, Problem) else apply_override(tree, parsed, Path.cwd())
        if problem is not None:
            problems.append(problem)
    return tree


def _value_problems(tree: Tree, at: Location, value: Any) -> list[Problem]:
    """Find values that no model of ours sees: dates, and paths that cannot be paths."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    problems = [problem for key, item in children for problem in _value_problems(tree, (*at, key), item)]
    text = ""
    if isinstance(value, date | time):
        origin = tree.origin(at)
        tree.put(at, str(value), lambda _: origin)
        text = f"no key of a recipe is a date or time; found {value}, and text goes in quotes"
    elif is_path(at) and value == "":
        text = f"expected a folder, a manifest CSV or {SYNTHETIC!r}, found an empty text"
    elif is_path(at) and isinstance(value, str) and value.startswith("synthetic:") and value != SYNTHETIC:
        text = f"expected a path or {SYNTHETIC!r}, found {found(value)}{did_you_mean(value, [SYNTHETIC])}"
    if text:
        problems.append(Problem(tree.origin(at), at, text, "value", key_text(at, tree)))
    return problems


def _choices(tree: Tree, registry: Registry, problems: list[Problem]) -> dict[Location, Choice | None]:
    """Find the plugin of every section that names one, in recipe order."""
    places: list[Location] = []
    for section in _KINDS:
        value = tree.value((section,))
        if section not in LIST_SECTIONS:
            places.append((section,))
        elif isinstance(value, list):
            places += [(section, index) for index in range(len(value))]
    return {at: choose(_KINDS[str(at[0])], at, tree, registry, problems) for at in places}


def _raise_if_any(file: Path, chain: Chain, overrides: Sequence[str], problems: list[Problem]) -> None:
    """Raise all problems, in the order of the files, each file's from the top, overrides last, as typed."""
    if chain.problems:
        # A parent is not read, so what seems to be missing, or to be called by a wrong name, may be there.
        unsure = {"missing", "value_error", "assertion_error", "cascade", "address"}
        problems = [one for one in problems if one.kind not in unsure]
    # One message for a value: what is said of it as a date or path is not repeated as a type.
    said = {one.at for one in problems if one.kind == "value"}
    problems = [one for one in problems if one.kind == "value" or one.at not in said]
    if not problems:
        return
    files = [layer.path for layer in chain.layers]

    def place(problem: Problem) -> tuple[int, int]:
        origin = problem.origin
        if origin.override is not None:
            return len(files) + 1, overrides.index(origin.override)
        return files.index(origin.file) if origin.file in files else len(files), origin.line or 0

    raise RecipeError(
        [str(problem) for problem in sorted(problems, key=place)],
        where=shown_path(file),
        hint="`ssl-wb describe KIND NAME` lists a plugin's options, `ssl-wb schema` every key of a recipe",
    )


def _whole(
    recipe: Recipe,
    choices: dict[Location, Choice | None],
    augment: list[AugmentSection],
    file: Path,
    source: str,
    overrides: tuple[str, ...],
) -> LoadedRecipe:
    """Put the validated parts together; every choice is there, for there are no problems."""
    found_choices = {at: cast(Choice, choice) for at, choice in choices.items()}

    def chosen(kind: type[Any], section: PluginSection, at: Location) -> Any:
        choice = found_choices[at]
        own = {key: getattr(section, key) for key in type(section).model_fields}
        options = cast(BaseModel, choice.options)
        written = options.model_dump(mode="json", by_alias=True, exclude_none=True)
        full = type(section).model_validate({**own, **written})
        return kind(section.name, choice.plugin, options, full)

    masker = chosen(Chosen, recipe.masker, ("masker",))
    backbone = chosen(Chosen, recipe.backbone, ("backbone",))
    objectives = [chosen(ChosenObjective, one, ("objective", i)) for i, one in enumerate(recipe.objective)]
    evaluators = [chosen(ChosenEvaluator, one, ("evaluate", i)) for i, one in enumerate(recipe.evaluate)]
    full = recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"augment": augment}),
            "masker": masker.section,
            "backbone": backbone.section,
            "objective": [one.section for one in objectives],
            "evaluate": [one.section for one in evaluators],
        }
    )
    return LoadedRecipe(file, source, overrides, full, masker, backbone, objectives, evaluators)

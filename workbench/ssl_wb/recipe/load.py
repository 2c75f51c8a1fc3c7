"""From a recipe file to a validated whole, with its plugins; every mistake reported at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import tomli_w

from ssl_wb.errors import RecipeError, did_you_mean
from ssl_wb.plugin.base import Kind
from ssl_wb.plugin.kinds import SECTIONS
from ssl_wb.plugin.places import installed_sources, known_places, schemes_of, source_of_text, sources_of_scheme
from ssl_wb.recipe.files import Chain, find_recipe, is_path, read_chain
from ssl_wb.recipe.overrides import Override, apply_override, parse_override
from ssl_wb.recipe.plugin_selection import PluginSelection, caption_problems, cascade_problems, select_all
from ssl_wb.recipe.problems import Problem, check_model, found, key_text
from ssl_wb.recipe.schema import DataSection, Recipe, document_model, in_section_order, own_part, source_tables
from ssl_wb.recipe.tree import Location, Tree, shown_path

if TYPE_CHECKING:
    from ssl_wb.plugin.augmentation import Augmentation
    from ssl_wb.plugin.backbone import Backbone
    from ssl_wb.plugin.base import PluginOptions
    from ssl_wb.plugin.evaluator import Evaluator
    from ssl_wb.plugin.front_end import FrontEnd
    from ssl_wb.plugin.masker import Masker
    from ssl_wb.plugin.objective import Objective
    from ssl_wb.plugin.optimiser import Optimiser
    from ssl_wb.plugin.registry import Registry
    from ssl_wb.plugin.schedule import Schedule
    from ssl_wb.plugin.source import Source

__all__ = ["LoadedRecipe", "load_recipe", "require_data", "resolved", "to_toml"]


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe with everything resolved. Two are equal when they say the same, wherever they were read from.

    Attributes:
        path: the file.
        source: its text as given.
        overrides: the overrides as given.
        recipe: what the workbench itself reads, with every default, paths absolute.
        plugins: what the recipe selects, by the keys that lead to the section: one plugin, or as many as the list has,
            in recipe order.
        sources: options of sources of clips, by name: those that the recipe sets, and of the sources that its places
            belong to.
    """

    path: Path = field(compare=False)
    source: str = field(compare=False)
    overrides: tuple[str, ...] = field(compare=False)
    recipe: Recipe
    plugins: Mapping[tuple[str | int, ...], tuple[PluginSelection[Any], ...]]
    sources: Mapping[str, PluginOptions]

    @property
    def masker(self) -> PluginSelection[Masker]:
        """The masker."""
        return self.plugins["masker",][0]

    @property
    def backbone(self) -> PluginSelection[Backbone]:
        """The backbone."""
        return self.plugins["backbone",][0]

    @property
    def front_end(self) -> PluginSelection[FrontEnd]:
        """The front end."""
        return self.plugins["front_end",][0]

    @property
    def optimizer(self) -> PluginSelection[Optimiser]:
        """The optimiser."""
        return self.plugins["optimizer",][0]

    @property
    def schedule(self) -> PluginSelection[Schedule]:
        """How the learning rate changes after the warm-up."""
        return self.plugins["schedule",][0]

    @property
    def objectives(self) -> tuple[PluginSelection[Objective], ...]:
        """The objectives, in the order they run."""
        return self.plugins["objective",]

    @property
    def evaluators(self) -> tuple[PluginSelection[Evaluator], ...]:
        """The probes."""
        return self.plugins["evaluate",]

    @property
    def augmentations(self) -> tuple[PluginSelection[Augmentation], ...]:
        """The changes of the waveform, in the order they run."""
        return self.plugins["data", "augment"]

    def with_plugin(self, section: str, selection: PluginSelection[Any]) -> LoadedRecipe:
        """Return this recipe with another plugin in a section that selects one."""
        return replace(self, plugins={**self.plugins, (section,): (selection,)})


def load_recipe(
    path: str | Path,
    overrides: Sequence[str | Override] = (),
    *,
    registry: Registry | None = None,
    only: Collection[Kind] | None = None,
) -> LoadedRecipe:
    """Read, merge and validate a recipe.

    Args:
        path: a file, or the name of a shipped recipe.
        overrides: ``key.path=value``, or values with a place of their own, applied in order on top of the file and what
            it extends.
        registry: the plugins; the installed ones unless given.
        only: kinds of plugins that are needed. Plugins of other kinds are left out where they are not installed or
            their options do not fit, because the encoder of a run does not depend on them.

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
    problems, readers = list(chain.problems), installed_sources(registry)
    tree = _assemble(file, chain, overrides, schemes_of(readers), problems)
    if only is not None and isinstance(data := tree.value(("data",)), dict):
        known = {*DataSection.model_fields, "augment", *source_tables(registry)}
        tree.data["data"] = {key: value for key, value in data.items() if key in known}  # sources that are gone
    problems += _value_problems(tree, (), tree.data, readers)
    document = check_model(document_model(registry), tree.data, (), tree, also=["extends"])
    if isinstance(document, list):
        problems += document
    selections = select_all(tree, registry, problems, only)
    if only is not None:
        selections = {at: selection for at, selection in selections.items() if selection is not None}
    objectives = {at: selection for at, selection in selections.items() if at[0] == "objective"}
    if only is None:
        problems += cascade_problems(objectives, tree, registry) + caption_problems(objectives, tree, readers)
    texts = tuple(one.text if isinstance(one, Override) else one for one in overrides)
    _raise_if_any(file, chain, texts, problems)
    # Every selection is there, for there are no problems.
    plugins = {
        section: tuple(cast(PluginSelection[Any], selections[at]) for at in selections if section in (at, at[:-1]))
        for section in SECTIONS
    }
    places = [tree.value(("data", "train")), *(selection.settings.task for selection in plugins["evaluate",])]
    used = {source.name for place in places if place and (source := source_of_text(place, readers))}
    # Not of every installed source: a run must load where others are installed.
    sources = {
        name: getattr(cast(Any, document).data, name)
        for name in source_tables(registry)
        if name in used or tree.value(("data", name)) is not None
    }
    return LoadedRecipe(file, chain.layers[0].source, texts, own_part(document), plugins, sources)


def require_data(loaded: LoadedRecipe) -> str:
    """Return what the recipe trains on: the absolute path of a folder or manifest, or a place of another source.

    Raises:
        RecipeError: the recipe leaves ``data.train`` open.
    """
    train = loaded.recipe.data.train
    if train is None:
        fault = "data.train: no audio to train on, and this recipe leaves it to you"
        hint = "add --set data.train=FOLDER (or a manifest CSV, or synthetic:scenes)"
        raise RecipeError([f"{shown_path(loaded.path)}: {fault}; {hint}"], where=shown_path(loaded.path))
    return train


def resolved(loaded: LoadedRecipe) -> dict[str, Any]:
    """Return the recipe with every default written out, plugin options included, and no ``extends``.

    Loading its TOML gives a recipe equal to ``loaded``.
    """
    # TOML has no null: a key that is None is left out, which is its default.
    values: dict[str, Any] = loaded.recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    for section, selections in loaded.plugins.items():
        written = [selection.written() for selection in selections]
        table = values
        for key in section[:-1]:
            table = table.setdefault(str(key), {})
        table[str(section[-1])] = written if SECTIONS[section].listed else written[0]
    for name, options in loaded.sources.items():
        values["data"][name] = options.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: values[name] for name in in_section_order(values)}


def to_toml(values: dict[str, Any]) -> str:
    """Write ``values`` as TOML."""
    return tomli_w.dumps(values)


def _assemble(
    file: Path, chain: Chain, overrides: Sequence[str | Override], schemes: Collection[str], problems: list[Problem]
) -> Tree:
    """Merge the chain, parents first, and the overrides on top."""
    tree = Tree(file)
    for layer in reversed(chain.layers):
        tree.overlay((), layer.data, layer.origin)
    for one in overrides:
        parsed = one if isinstance(one, Override) else parse_override(one)
        problem = parsed if isinstance(parsed, Problem) else apply_override(tree, parsed, Path.cwd(), schemes)
        if problem is not None:
            problems.append(problem)
    return tree


def _value_problems(tree: Tree, at: Location, value: Any, sources: Sequence[type[Source]]) -> list[Problem]:
    """Find values that no model of ours sees: dates, and places of clips that cannot be any."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    problems = [problem for key, item in children for problem in _value_problems(tree, (*at, key), item, sources)]
    text = ""
    if isinstance(value, date | time):
        origin = tree.origin(at)
        tree.put(at, str(value), lambda _: origin)
        text = f"no key of a recipe is a date or time; found {value}, and text goes in quotes"
    elif is_path(at) and value == "":
        known = " or ".join(map(repr, known_places(sources)))
        text = f"expected a folder, a manifest CSV or {known}, found an empty text"
    elif is_path(at) and isinstance(value, str) and (owners := sources_of_scheme(value, sources)):
        if source_of_text(value, sources) is None:
            places = known_places(owners)
            known = " or ".join(map(repr, places))
            text = f"expected a path or {known}, found {found(value)}{did_you_mean(value, places)}"
    if text:
        problems.append(Problem(tree.origin(at), at, text, "value", key_text(at, tree)))
    return problems


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

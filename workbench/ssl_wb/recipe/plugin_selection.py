"""The plugins a recipe selects: found by name, with their options checked, ready to be built."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from ssl_wb.errors import PluginError
from ssl_wb.plugin.base import Kind, Plugin
from ssl_wb.plugin.kinds import SECTIONS, KindSpec
from ssl_wb.plugin.places import source_of_text
from ssl_wb.recipe.problems import Problem, check_model, key_text
from ssl_wb.recipe.tree import Location, Tree

if TYPE_CHECKING:
    from ssl_wb.plugin.registry import Registry
    from ssl_wb.plugin.source import Source

__all__ = ["PluginSelection", "caption_problems", "cascade_problems", "select", "select_all"]

P = TypeVar("P", bound=Plugin)


@dataclass(frozen=True)
class PluginSelection(Generic[P]):
    """A plugin as a recipe selects it, from parsing to building.

    Attributes:
        kind: kind of plugin.
        name: as the recipe writes it, bare or ``distribution/name``.
        plugin: the class.
        options: its options, defaults included.
        settings: the section's own keys, which the workbench reads: of an objective ``weight``, of an evaluator
            ``task``, ``metric``, ``every`` and ``every_clips``.
    """

    kind: Kind
    name: str
    plugin: type[P]
    options: Any
    settings: Any

    def build(self, *arguments: Any) -> P:
        """Make the plugin of its options and what the contract of its kind adds to them.

        Raises:
            PluginError: its constructor does not take these.
        """
        try:
            return cast("P", cast(Any, self.plugin)(self.options, *arguments))
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # from within the constructor
            from ssl_wb.plugin.contract_checks import refuse  # imports torch, as the plugin itself does

            refuse(self.plugin, "have a constructor with the arguments of its base class", str(error))

    def with_options(self, **changes: Any) -> PluginSelection[P]:
        """Return the same plugin with some options changed; they are validated."""
        options = type(self.options).model_validate({**self.options.model_dump(), **changes})
        return replace(self, options=options)

    @property
    def written_options(self) -> dict[str, Any]:
        """Every option as a recipe writes it; those that are None are left out."""
        values: dict[str, Any] = self.options.model_dump(mode="json", by_alias=True, exclude_none=True)
        return values

    def written(self) -> dict[str, Any]:
        """Return the section of a recipe that selects this plugin, every option written out."""
        return {**self.settings.model_dump(mode="json", exclude_none=True), **self.written_options}


def select_all(
    tree: Tree, registry: Registry, problems: list[Problem], only: Collection[Kind] | None = None
) -> dict[Location, PluginSelection[Any] | None]:
    """Find the plugin of every section that selects one, in the order of kinds and of the recipe.

    Args:
        tree: the recipe.
        registry: the plugins.
        problems: takes what is wrong.
        only: kinds that are needed; what is wrong with others is no problem. None for all kinds.

    Returns:
        By place; None where the name is missing or wrong, or the options have mistakes.
    """
    places: dict[Location, KindSpec] = {}
    for at, spec in SECTIONS.items():
        value = tree.value(at)
        if not spec.listed:
            places[at] = spec
        elif isinstance(value, list):
            places |= {(*at, index): spec for index in range(len(value))}
    selections: dict[Location, PluginSelection[Any] | None] = {}
    for at, spec in places.items():
        needed = only is None or spec.kind in only
        try:
            selections[at] = select(spec, at, tree, registry, problems if needed else [])
        except PluginError:
            if needed:
                raise
            selections[at] = None
    return selections


def select(
    spec: KindSpec, at: Location, tree: Tree, registry: Registry, problems: list[Problem]
) -> PluginSelection[Any] | None:
    """Find the plugin that the section at ``at`` names and validate its options.

    Args:
        spec: kind of plugin.
        at: place of the section; a missing one selects the kind's default, if it has one.
        tree: the recipe.
        registry: the plugins.
        problems: takes what is wrong.

    Returns:
        None where the section or its name is missing, is not a table or text, or names no usable plugin, and where the
        options hold mistakes.

    Raises:
        PluginError: the plugin's own validation crashed, which is no mistake of the recipe.
    """
    section = tree.value(at)
    if section is None and spec.default is not None:
        section = {}
    name = section.get("name", spec.default) if isinstance(section, dict) else None
    if not isinstance(name, str):
        return None  # the check of the recipe's own keys says so
    try:
        plugin = registry.get(spec.kind, name)
    except PluginError as error:
        where = (*at, "name")
        text = f"{error.message} ({error.hint})" if error.hint else error.message
        problems.append(Problem(tree.origin(where), where, text, "plugin", key_text(where, tree)))
        return None
    values = {key: value for key, value in section.items() if key not in spec.own_keys}
    also = sorted(spec.own_keys - {"name"}) or ["name"]
    try:
        options = check_model(plugin.Options, values, at, tree, also=also, owner=f"{spec.kind} {name!r}")
    except Exception as error:
        fault = f"{spec.kind} {name!r} failed while checking its options: {type(error).__name__}: {error}"
        raise PluginError(fault, hint="this is a fault of the plugin: report it to its author") from error
    if isinstance(options, list):
        problems.extend(options)
        return None
    # Unchecked: the check of the whole recipe does that.
    own = {key: value for key, value in {"name": name, **section}.items() if key in spec.own_keys}
    return PluginSelection(spec.kind, name, plugin, options, spec.section_model.model_construct(**own))


def cascade_problems(
    objectives: Mapping[Location, PluginSelection[Any] | None], tree: Tree, registry: Registry
) -> list[Problem]:
    """Check that an objective that needs an earlier objective's prediction comes after one that makes it.

    Args:
        objectives: by place, in recipe order; None where one is wrong: it may be the one that provides.
        tree: the recipe.
        registry: the plugins, to name some that provide a prediction.
    """
    problems: list[Problem] = []
    places = list(objectives.items())
    for index, (at, selection) in enumerate(places):
        if selection is not None and "prediction" in getattr(selection.plugin, "needs", ()):
            problems.append(_without_prediction(at, places[index + 1 :], tree, registry))
        if selection is None or _provides(selection.plugin):
            break  # everyone from here on has a prediction, or may have one
    return problems


def caption_problems(
    objectives: Mapping[Location, PluginSelection[Any] | None], tree: Tree, sources: Sequence[type[Source]]
) -> list[Problem]:
    """Check that the data has captions where an objective needs them, and that they can be had.

    Args:
        objectives: by place, in recipe order; None where one is wrong.
        tree: the recipe.
        sources: the installed ones.
    """
    captions = tree.value(("data", "captions"))
    if captions is not None:
        source = captions.get("source", "caption") if isinstance(captions, dict) else None
        place = tree.value(("data", "train"))
        reader = source_of_text(place, sources) if isinstance(place, str) else None
        if reader is None or reader.has_captions or source not in ("caption", "embedding"):
            return []
        at: Location = ("data", "captions", "source")
        text = f"{place!r} has labels only, no captions; set it to 'label'"
        return [Problem(tree.origin(at), at, text, "cascade", key_text(at, tree))]
    text = (
        "needs captions, and the recipe has none; add [data.captions] with source = 'caption', 'label' or 'embedding'"
    )
    return [
        Problem(tree.origin(at), at, text, "cascade", key_text(at, tree))
        for at, selection in objectives.items()
        if selection is not None and "captions" in getattr(selection.plugin, "needs", ())
    ]


def _provides(plugin: type[Plugin]) -> bool:
    return "prediction" in getattr(plugin, "provides", ())


def _without_prediction(
    at: Location, later: Sequence[tuple[Location, PluginSelection[Any] | None]], tree: Tree, registry: Registry
) -> Problem:
    """Say that the objective at ``at`` has no prediction to work on, and where to get one."""
    behind = [tree.value(place)["name"] for place, selection in later if selection and _provides(selection.plugin)]
    if behind:
        remedy = f"move {behind[0]!r} before it"
    else:
        names = [name for name in registry.names("objective") if _provides(registry.get("objective", name))]
        remedy = f"put one that does before it: {', '.join(names) or 'none is installed'}"
    text = f"needs a prediction, and no objective before it provides one; {remedy}"
    return Problem(tree.origin(at), at, text, "cascade", key_text(at, tree))

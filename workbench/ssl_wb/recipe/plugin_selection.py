"""The plugins a recipe names, found and with their options checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ssl_wb.errors import PluginError
from ssl_wb.plugin.base import Kind, Plugin, PluginOptions
from ssl_wb.recipe.origins import Location
from ssl_wb.recipe.problems import Problem, check_model, key_text
from ssl_wb.recipe.schema import SYNTHETIC, EvaluateSection, ObjectiveSection, PluginSection
from ssl_wb.recipe.tree import Tree, section_keys

if TYPE_CHECKING:
    from ssl_wb.plugin.evaluator import Evaluator  # noqa: F401 - names a base class below
    from ssl_wb.plugin.objective import Objective  # noqa: F401 - names a base class below
    from ssl_wb.plugin.registry import Registry

__all__ = ["Choice", "Chosen", "ChosenEvaluator", "ChosenObjective", "caption_problems", "cascade_problems", "choose"]

P = TypeVar("P", bound=Plugin)


@dataclass(frozen=True)
class Chosen(Generic[P]):
    """A plugin as a recipe selects it.

    Attributes:
        name: as the recipe writes it, bare or ``distribution/name``.
        plugin: the class.
        options: its options, defaults included.
        section: the recipe's section, with every option written out.
    """

    name: str
    plugin: type[P]
    options: PluginOptions
    section: PluginSection


@dataclass(frozen=True)
class ChosenObjective(Chosen["Objective"]):
    """An objective and its weight."""

    section: ObjectiveSection

    @property
    def weight(self) -> float:
        """Factor of the loss in the total."""
        return self.section.weight


@dataclass(frozen=True)
class ChosenEvaluator(Chosen["Evaluator"]):
    """An evaluator and its task."""

    section: EvaluateSection

    @property
    def task(self) -> str:
        """Manifest CSV with labels, absolute, or the synthetic scenes."""
        return self.section.task


@dataclass(frozen=True)
class Choice:
    """A plugin of any kind with its options checked; ``options`` is None where they hold mistakes."""

    plugin: type[Plugin]
    options: PluginOptions | None


def choose(kind: Kind, at: Location, tree: Tree, registry: Registry, problems: list[Problem]) -> Choice | None:
    """Find the plugin that the section at ``at`` names and validate its options.

    Args:
        kind: kind of plugin.
        at: place of the section.
        tree: the recipe.
        registry: the plugins.
        problems: takes what is wrong.

    Returns:
        None where the section or its name is missing, is not a table or text, or names no usable plugin.

    Raises:
        PluginError: the plugin's own validation crashed, which is no mistake of the recipe.
    """
    section = tree.value(at)
    name = section.get("name") if isinstance(section, dict) else None
    if not isinstance(name, str):
        return None  # the check of the recipe's own keys says so
    try:
        plugin = registry.get(kind, name)
    except PluginError as error:
        where = (*at, "name")
        text = f"{error.message} ({error.hint})" if error.hint else error.message
        problems.append(Problem(tree.origin(where), where, text, "plugin", key_text(where, tree)))
        return None
    own = section_keys(at) or frozenset()
    values = {key: value for key, value in section.items() if key not in own}
    also = sorted(own - {"name"})
    try:
        options = check_model(plugin.Options, values, at, tree, also=also, owner=f"{kind} {name!r}")
    except Exception as error:
        fault = f"{kind} {name!r} failed while checking its options: {type(error).__name__}: {error}"
        raise PluginError(fault, hint="this is a fault of the plugin: report it to its author") from error
    if isinstance(options, list):
        problems.extend(options)
        return Choice(plugin, None)
    return Choice(plugin, options)


def _provides(plugin: type[Plugin]) -> bool:
    return "prediction" in getattr(plugin, "provides", ())


def cascade_problems(
    choices: Sequence[tuple[Location, Choice | None]], tree: Tree, registry: Registry
) -> list[Problem]:
    """Check that whoever needs an earlier objective's prediction comes after one that makes it.

    Args:
        choices: the objectives in recipe order; None where the name is wrong: it may be one that provides.
        tree: the recipe.
        registry: the plugins, to name some that provide a prediction.
    """
    problems: list[Problem] = []
    for index, (at, choice) in enumerate(choices):
        if choice is not None and "prediction" in getattr(choice.plugin, "needs", ()):
            problems.append(_lonely(at, choices[index + 1 :], tree, registry))
        if choice is None or _provides(choice.plugin):
            break  # everyone from here on has a prediction, or may have one
    return problems


def caption_problems(choices: Sequence[tuple[Location, Choice | None]], tree: Tree) -> list[Problem]:
    """Check that the data has captions where an objective needs them, and that they can be had.

    Args:
        choices: the objectives in recipe order; None where the name is wrong.
        tree: the recipe.
    """
    captions = tree.value(("data", "captions"))
    if captions is not None:
        source = captions.get("source", "caption") if isinstance(captions, dict) else None
        if tree.value(("data", "train")) != SYNTHETIC or source not in ("caption", "embedding"):
            return []
        at = ("data", "captions", "source")
        text = f"{SYNTHETIC!r} has labels only, no captions; set it to 'label'"
        return [Problem(tree.origin(at), at, text, "cascade", key_text(at, tree))]
    text = (
        "needs captions, and the recipe has none; add [data.captions] with source = 'caption', 'label' or 'embedding'"
    )
    return [
        Problem(tree.origin(at), at, text, "cascade", key_text(at, tree))
        for at, choice in choices
        if choice is not None and "captions" in getattr(choice.plugin, "needs", ())
    ]


def _lonely(at: Location, later: Sequence[tuple[Location, Choice | None]], tree: Tree, registry: Registry) -> Problem:
    """Say that the objective at ``at`` has no prediction to work on, and where to get one."""
    behind = [tree.value(there)["name"] for there, choice in later if choice and _provides(choice.plugin)]
    if behind:
        remedy = f"move {behind[0]!r} before it"
    else:
        names = _names_that_provide(registry)
        remedy = f"put one that does before it: {', '.join(names) or 'none is installed'}"
    text = f"needs a prediction, and no objective before it provides one; {remedy}"
    return Problem(tree.origin(at), at, text, "cascade", key_text(at, tree))


def _names_that_provide(registry: Registry) -> list[str]:
    """Return the installed objectives that hand on a prediction."""
    names: list[str] = []
    for name in registry.names("objective"):
        try:
            plugin: Any = registry.get("objective", name)
        except PluginError:
            continue  # broken or clashing: not one to recommend
        if _provides(plugin):
            names.append(name)
    return names

"""The table of kinds of plugin: what each is called, its contract, its hook and its place in a recipe.

A new kind takes a row here and a file with its contract; the row specifies its hook. Nothing here imports a contract
before it is asked for: contracts import torch, and the command line's help must not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from ssl_wb.plugin.base import Kind, Plugin, PluginSection

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["KINDS", "SECTIONS", "KindSpec", "spec_of"]


@dataclass(frozen=True)
class KindSpec:
    """One kind of plugin.

    Attributes:
        kind: its name in messages and on the command line.
        hook: hook that returns classes of this kind, without arguments.
        contract: the base class, as ``module:class``.
        section: keys that lead to the section of a recipe that selects one; () where no section does.
        listed: whether that section is a list of tables, each of which selects one.
        default: name that is selected where the section or its ``name`` is missing; None where it is required.
        description: what the section is for, one sentence.
        settings: model of the section's own keys, as ``module:class``: those that the workbench reads, and not the
            plugin. ``name`` alone unless given.
        required: whether a recipe needs the section.
        shared_options: options that every plugin of the kind has: they stay when an override changes ``name``.
    """

    kind: Kind
    hook: str
    contract: str
    section: tuple[str, ...] = ()
    listed: bool = False
    default: str | None = None
    description: str = ""
    settings: str = ""
    required: bool = False
    shared_options: frozenset[str] = frozenset()

    @cached_property
    def base(self) -> type[Plugin]:
        """The class that plugins of this kind derive from."""
        base: type[Plugin] = _load(self.contract)
        return base

    @cached_property
    def section_model(self) -> type[PluginSection]:
        """The model of the section: its own keys, and any others, which are the plugin's options."""
        base: type[PluginSection] = _load(self.settings) if self.settings else PluginSection
        title = "".join(part.capitalize() for part in self.kind.split("-")) + "Section"
        fields: dict[str, Any] = {}
        if self.default is not None:
            fields["name"] = (str, Field(self.default, description=PluginSection.model_fields["name"].description))
        return create_model(title, __base__=base, __doc__=self.description, **fields)

    @property
    def own_keys(self) -> frozenset[str]:
        """Keys of the section that never reach the plugin, so that no option may be called like one of them."""
        model: type[BaseModel] = _load(self.settings) if self.settings else PluginSection
        return frozenset(model.model_fields) if self.section else frozenset()


def _load(place: str) -> Any:
    """Import ``module:name``."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


#: Every kind, in the order of lists.
KINDS: dict[Kind, KindSpec] = {
    spec.kind: spec
    for spec in (
        KindSpec(
            kind="masker",
            hook="ssl_wb_maskers",
            contract="ssl_wb.plugin.masker:Masker",
            section=("masker",),
            description="Which patches the student sees.",
            required=True,
        ),
        KindSpec(
            kind="objective",
            hook="ssl_wb_objectives",
            contract="ssl_wb.plugin.objective:Objective",
            section=("objective",),
            listed=True,
            description="One loss; several are added up in recipe order.",
            settings="ssl_wb.plugin.objective:ObjectiveSection",
            required=True,
        ),
        KindSpec(
            kind="backbone",
            hook="ssl_wb_backbones",
            contract="ssl_wb.plugin.backbone:Backbone",
            section=("backbone",),
            description="The encoder that is trained.",
            required=True,
        ),
        KindSpec(
            kind="evaluator",
            hook="ssl_wb_evaluators",
            contract="ssl_wb.plugin.evaluator:Evaluator",
            section=("evaluate",),
            listed=True,
            description="A probe run after training and, where ``every`` is given, while it goes on.",
            settings="ssl_wb.plugin.evaluator:EvaluatorSection",
        ),
        KindSpec(
            kind="front-end",
            hook="ssl_wb_front_ends",
            contract="ssl_wb.plugin.front_end:FrontEnd",
            section=("front_end",),
            default="log-mel",
            description="Waveforms to normalised spectrograms.",
        ),
        KindSpec(
            kind="augmentation",
            hook="ssl_wb_augmentations",
            contract="ssl_wb.plugin.augmentation:Augmentation",
            section=("data", "augment"),
            listed=True,
            shared_options=frozenset({"p"}),
            description="One change of the waveform, drawn anew for each clip, epoch and view; run in recipe order.",
        ),
        KindSpec(
            kind="optimiser",
            hook="ssl_wb_optimisers",
            contract="ssl_wb.plugin.optimiser:Optimiser",
            section=("optimizer",),
            default="adamw",
            description="How weights are updated.",
        ),
        KindSpec(
            kind="schedule",
            hook="ssl_wb_schedules",
            contract="ssl_wb.plugin.schedule:Schedule",
            section=("schedule",),
            default="cosine",
            description="How the learning rate changes after the warm-up, from optimizer.lr to optimizer.min_lr.",
        ),
        KindSpec(kind="task", hook="ssl_wb_tasks", contract="ssl_wb.plugin.task:Task"),
        KindSpec(kind="source", hook="ssl_wb_sources", contract="ssl_wb.plugin.source:Source"),
        KindSpec(
            kind="importer",
            hook="ssl_wb_importers",
            contract="ssl_wb.plugin.importer:Importer",
            description="Published checkpoints of one system to encoders, for ``ssl-wb import``.",
        ),
    )
}

#: Kinds that a recipe selects, by the keys that lead to their section.
SECTIONS: dict[tuple[str | int, ...], KindSpec] = {spec.section: spec for spec in KINDS.values() if spec.section}


def spec_of(at: tuple[str | int, ...]) -> KindSpec | None:
    """Return the kind that the table at ``at`` of a recipe selects, an item of a list included; None for others.

    Args:
        at: keys and list indices from the top of the recipe.
    """
    if at and isinstance(at[-1], int):
        spec = SECTIONS.get(at[:-1])
        return spec if spec is not None and spec.listed else None
    spec = SECTIONS.get(at)
    return spec if spec is not None and not spec.listed else None

"""The hooks a plugin module may implement. Each returns classes (or, for recipes, paths)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pluggy

from ssl_wb.plugin.augmentation import Augmentation
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.evaluator import Evaluator
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.masker import Masker
from ssl_wb.plugin.objective import Objective
from ssl_wb.plugin.optimiser import Optimiser
from ssl_wb.plugin.source import Source
from ssl_wb.plugin.task import Task

__all__ = ["SslWbSpecs", "hookspec"]

hookspec = pluggy.HookspecMarker("ssl_wb")


class SslWbSpecs(Protocol):
    """Hook specifications of the ``ssl_wb`` host: pluggy calls implementations only, so they have no bodies."""

    @hookspec
    def ssl_wb_maskers(self) -> Iterable[type[Masker]]:
        """Return masker classes."""

    @hookspec
    def ssl_wb_objectives(self) -> Iterable[type[Objective]]:
        """Return objective classes."""

    @hookspec
    def ssl_wb_backbones(self) -> Iterable[type[Backbone]]:
        """Return backbone classes."""

    @hookspec
    def ssl_wb_evaluators(self) -> Iterable[type[Evaluator]]:
        """Return evaluator classes."""

    @hookspec
    def ssl_wb_front_ends(self) -> Iterable[type[FrontEnd]]:
        """Return front end classes."""

    @hookspec
    def ssl_wb_augmentations(self) -> Iterable[type[Augmentation]]:
        """Return augmentation classes."""

    @hookspec
    def ssl_wb_optimisers(self) -> Iterable[type[Optimiser]]:
        """Return optimiser classes."""

    @hookspec
    def ssl_wb_tasks(self) -> Iterable[type[Task]]:
        """Return task classes."""

    @hookspec
    def ssl_wb_sources(self) -> Iterable[type[Source]]:
        """Return classes of sources of clips."""

    @hookspec
    def ssl_wb_recipes(self) -> Iterable[Path]:
        """Return paths of recipe files the plugin ships."""

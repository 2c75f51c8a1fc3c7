"""Plugins and a registry for the tests of recipes."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from ssl_wb.plugin.base import Duration, Plugin, PluginOptions
from ssl_wb.plugin.registry import PluginRecord, Registry, load_registry


class RandomMasker(Plugin):
    """Masks at random.

    More about it.
    """

    kind = "masker"
    name = "random"

    class Options(PluginOptions):
        ratio: float = Field(0.7, gt=0, lt=1, description="Share of patches masked.")
        views: int = Field(1, ge=1, description="Masks per clip.")


class BlockMasker(Plugin):
    """Masks blocks."""

    kind = "masker"
    name = "block"

    class Options(PluginOptions):
        size: tuple[int, int] = Field((4, 4), description="Patches per block.")
        shape: Literal["square", "stripe"] = Field("square", description="Shape.")
        wrap: bool = Field(False, description="Whether blocks wrap around.")

        @field_validator("size")
        @classmethod
        def _even(cls, size: tuple[int, int]) -> tuple[int, int]:
            if size[0] % 2:
                raise ValueError(f"size {size[0]} is odd")
            return size


class CrashingMasker(Plugin):
    """Its options crash."""

    kind = "masker"
    name = "crashing"

    class Options(PluginOptions):
        depth: int = Field(1, description="Anything.")

        @field_validator("depth")
        @classmethod
        def _crash(cls, depth: int) -> int:
            return [][depth]


class Size(Enum):
    TINY = "tiny"
    BASE = "base"


class Position(PluginOptions):
    kind: str = "sincos"
    scale: float = 1.0


class Vit(Plugin):
    """A transformer."""

    kind = "backbone"
    name = "vit"

    class Options(PluginOptions):
        size: Size = Field(Size.BASE, description="Width and depth.")
        position: Position = Field(default_factory=lambda: Position(), description="Positions.")
        drop: float | None = Field(None, ge=0, description="Drop path.")


class Mcl(Plugin):
    """Several hypotheses."""

    kind = "objective"
    name = "mcl"
    needs = frozenset({"features", "target"})
    provides = frozenset({"prediction"})

    class Options(PluginOptions):
        hypotheses: int = Field(5, ge=1, description="Heads.")
        start: Duration = Field(0.1, description="Annealing.")


class Dino(Plugin):
    """Classifies a prediction."""

    kind = "objective"
    name = "dino"
    needs = frozenset({"prediction", "target"})
    provides = frozenset()

    class Options(PluginOptions):
        prototypes: int = Field(2048, ge=2, description="Classes.")


class Knn(Plugin):
    """Nearest neighbours."""

    kind = "evaluator"
    name = "knn"

    class Options(PluginOptions):
        neighbours: int = Field(10, ge=1, description="Neighbours.")


class Linear(Plugin):
    """A linear layer."""

    kind = "evaluator"
    name = "linear"

    class Options(PluginOptions):
        rates: list[float] = Field(default_factory=lambda: [0.1, 0.01], min_length=1, description="Rates.")


def registry_of(*plugins: type[Plugin], recipes: tuple[tuple[str, Path], ...] = ()) -> Registry:
    """A registry of these plugins, all from the distribution "fakes", and the bundled ones of kinds with defaults."""
    records = [
        PluginRecord(one.kind, one.name, "fakes", "1.0", "active", one.__doc__.partition("\n\n")[0], plugin=one)
        for one in plugins
    ]
    kinds = ("front-end", "optimiser", "augmentation", "source", "schedule")
    bundled = [one for one in load_registry().records if one.kind in kinds]
    return Registry([*records, *bundled], recipes)


PLUGINS = (RandomMasker, BlockMasker, CrashingMasker, Vit, Mcl, Dino, Knn, Linear)
REGISTRY = registry_of(*PLUGINS)

GOOD = """\
title = "good"

[data]
train = "clips"

[masker]
name = "random"
ratio = 0.6

[backbone]
name = "vit"
size = "tiny"

[[objective]]
name = "mcl"
weight = 0.5
hypotheses = 3

[[objective]]
name = "dino"
weight = 0.5

[train]
steps = 100

[[evaluate]]
name = "knn"
task = "task.csv"
"""

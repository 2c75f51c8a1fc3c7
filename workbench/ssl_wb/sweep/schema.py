"""What a sweep file holds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from ssl_wb.recipe.sections import Section

__all__ = ["AxisSection", "LevelSection", "Rule", "SweepDocument"]

#: Names of axes and levels, which become parts of folder names.
NAME = r"^[A-Za-z0-9][A-Za-z0-9.+-]*$"

Name = Annotated[str, Field(pattern=NAME)]
#: Which cells: by axis the name of a level, or a list of such names.
Rule = dict[str, str | int | list[str] | list[int]]


class LevelSection(Section):
    """One level of an axis that changes several keys together."""

    name: Name = Field(description="Part of the runs' names.")
    base: str | None = Field(None, min_length=1, description="Another base recipe for this level.")
    set: dict[str, Any] = Field(default_factory=dict, description="Keys of the recipe and their values.")


class AxisSection(Section):
    """One axis: a key of the recipe with its values, or levels that change several keys together."""

    name: Name | None = Field(None, description="Part of the runs' names; the last part of the key unless given.")
    key: str | None = Field(
        None,
        min_length=1,
        description="Key of the recipe, as train.steps, objective.mcl.hypotheses, a whole plugin as masker, or base.",
    )
    values: list[Any] | None = Field(None, min_length=1, description="Values of the key.")
    names: list[Name] | None = Field(None, description="Names of the values; made from the values unless given.")
    level: list[LevelSection] = Field(
        default_factory=list, description="Levels that change several keys together, in place of key and values."
    )

    @model_validator(mode="after")
    def _one_form(self) -> AxisSection:
        if bool(self.level) == (self.key is not None):
            raise ValueError("give either key and values, or [[axis.level]] tables with name and set")
        if self.key is not None and self.values is None:
            raise ValueError(f"key {self.key!r} has no values: values = [...]")
        if self.level and (self.values is not None or self.names is not None):
            raise ValueError("values and names belong to a key; levels have a name and a set of their own")
        if self.level and self.name is None:
            raise ValueError("an axis of levels needs a name")
        if self.names is not None and len(self.names) != len(self.values or ()):
            raise ValueError(f"names has {len(self.names)} names for {len(self.values or ())} values")
        return self


class SweepDocument(Section):
    """A sweep file."""

    title: str = Field("", description="A line for tables and logs.")
    base: str | None = Field(
        None,
        min_length=1,
        description="Recipe that every run starts from: a file beside this one, or a shipped recipe.",
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        default_factory=lambda: [0, 1, 2], min_length=1, description="Pre-training seeds; each cell has a run for each."
    )
    set: dict[str, Any] = Field(default_factory=dict, description="Keys of the recipe that all runs change.")
    axis: list[AxisSection] = Field(default_factory=list, description="What the runs differ in.")
    tasks: list[str | dict[str, Any]] = Field(
        default_factory=list,
        description="Manifests to probe on, or tables with task and other keys of [[evaluate]]; in place of the probes "
        "of the base recipe.",
    )
    evaluators: list[str | dict[str, Any]] = Field(
        ["linear"], min_length=1, description="Evaluators of every task: names, or tables with name and options."
    )
    skip: list[Rule] = Field(default_factory=list, description="Cells that are left out: tables of axis = level.")
    only: list[Rule] = Field(default_factory=list, description="If given, only cells that one of these tables fits.")
    baseline: dict[str, str] = Field(
        default_factory=dict,
        description="Level of an axis that the others are compared with, other axes equal: { masker = 'random' }.",
    )

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: list[int]) -> list[int]:
        twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        if twice:
            raise ValueError(f"seed {twice[0]} is there twice")
        return seeds

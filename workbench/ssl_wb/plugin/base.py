"""What all four kinds of plugin have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pluggy
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["API_VERSION", "KINDS", "Duration", "Kind", "Plugin", "PluginOptions", "hookimpl", "steps_of"]

#: Version of the plugin contract. A plugin module may declare ``API_VERSION``; a larger one than this is not loaded.
API_VERSION = 1

Kind = Literal["masker", "objective", "backbone", "evaluator"]
KINDS: tuple[Kind, ...] = ("masker", "objective", "backbone", "evaluator")

#: Marks a function of a plugin module as the implementation of a hook.
hookimpl = pluggy.HookimplMarker("ssl_wb")

#: A stretch of training: a whole number counts optimiser steps, a fraction below or at 1.0 is a share of the run.
Duration = Annotated[
    Annotated[int, Field(strict=True, ge=0)] | Annotated[float, Field(strict=True, ge=0.0, le=1.0)],
    Field(description="Steps when a whole number, share of the run when a fraction (0.0 to 1.0)."),
]


def steps_of(duration: int | float, total_steps: int) -> int:
    """Resolve a :data:`Duration` to optimiser steps.

    Args:
        duration: a whole number of steps, or a float share of the run.
        total_steps: optimiser steps of the whole run.
    """
    return duration if isinstance(duration, int) else round(duration * total_steps)


class PluginOptions(BaseModel):
    """Base of a plugin's options: unknown keys are refused, values cannot change after the recipe is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Plugin:
    """Base of the four kinds.

    The first paragraph of a plugin's docstring is its summary in ``list-plugins``.
    """

    kind: ClassVar[Kind]
    #: Name in recipes, in kebab-case.
    name: ClassVar[str]
    #: Paper and section or equation.
    reference: ClassVar[str] = ""
    Options: ClassVar[type[PluginOptions]] = PluginOptions

    options: Any

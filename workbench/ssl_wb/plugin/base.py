"""What all kinds of plugin have in common."""

from __future__ import annotations

import logging
from typing import Annotated, Any, ClassVar

import pluggy
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["API_VERSION", "Duration", "Kind", "Plugin", "PluginOptions", "PluginSection", "hookimpl", "steps_of"]

#: Version of the plugin contract. A plugin module may declare ``API_VERSION``; a larger one than this is not loaded.
API_VERSION = 1

#: Name of a kind of plugin; the table of kinds is :data:`ssl_wb.plugin.kinds.KINDS`.
Kind = str

#: Marks a function of a plugin module as the implementation of a hook.
hookimpl = pluggy.HookimplMarker("ssl_wb")

log = logging.getLogger("ssl_wb")

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
    """Base of a plugin's options: unknown keys are refused, values cannot change after the recipe is read.

    Attributes:
        retired: options of earlier versions that no longer exist, by name: their former default, which every resolved
            recipe of an old run holds and which is accepted in silence, and what is wrong with another value. Where
            nothing is (""), another value is ignored with a warning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    retired: ClassVar[dict[str, tuple[Any, str]]] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not cls.retired:
            return values
        for key in cls.retired.keys() & values.keys():
            former, fault = cls.retired[key]
            if values[key] != former and fault:
                raise ValueError(fault)
            if values[key] != former:
                log.warning("option %r is no longer used and is ignored", key)
        return {key: value for key, value in values.items() if key not in cls.retired}


class PluginSection(BaseModel):
    """A recipe's section that selects a plugin; keys that it does not know are the plugin's options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="Name of the plugin, bare or as distribution/name.")


class Plugin:
    """Base of all kinds.

    The first paragraph of a plugin's docstring is its summary in ``list-plugins``.
    """

    kind: ClassVar[Kind]
    #: Name in recipes, in kebab-case.
    name: ClassVar[str]
    #: Paper and section or equation.
    reference: ClassVar[str] = ""
    Options: ClassVar[type[PluginOptions]] = PluginOptions
    #: Class attributes without a default, besides ``name``, that every plugin of a kind has to set.
    required_attributes: ClassVar[tuple[str, ...]] = ()

    options: Any

    @classmethod
    def named(cls, name: str) -> type[Plugin] | None:
        """Return the plugin of this name that this class stands for, where it stands for a whole library.

        The registry asks when no plugin has the name itself. A class that answers is never selected by its own name.
        """
        del name
        return None

    #: Whether the class stands for a library of plugins, which it makes by :meth:`named`.
    is_library: ClassVar[bool] = False

"""What all kinds of plugin have in common."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

import pluggy
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "API_VERSION",
    "Duration",
    "Kind",
    "Plugin",
    "PluginOptions",
    "PluginSection",
    "hookimpl",
    "retire",
    "steps_of",
]

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
    """Base of a plugin's options: unknown keys are refused, values cannot change after the recipe is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def retire(**options: tuple[Any, str]) -> Any:
    """Return a validator, for the body of an options model, that accepts options which no longer exist.

    The resolved recipe of an old run names every option of its time.

    Args:
        options: by name, the former default, which is accepted in silence, and what is wrong with another value. Where
            nothing is (""), another value is ignored with a warning.
    """

    def without_retired(cls: type[PluginOptions], values: Any) -> Any:
        del cls
        if not isinstance(values, dict):
            return values
        for key in options.keys() & values.keys():
            former, fault = options[key]
            if values[key] != former and fault:
                raise ValueError(fault)
            if values[key] != former:
                log.warning("option %r is no longer used and is ignored", key)
        return {key: value for key, value in values.items() if key not in options}

    return model_validator(mode="before")(classmethod(without_retired))  # type: ignore[arg-type]


class PluginSection(BaseModel):
    """A recipe's section that selects a plugin; keys that it does not know are the plugin's options."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="Name of the plugin, bare or as distribution/name.")


class Plugin:
    """Base of all kinds.

    The first paragraph of a plugin's docstring is its summary in ``list-plugins``.

    Attributes:
        kind: kind of plugin; the contract's base class sets it.
        name: name in recipes, in kebab-case.
        reference: paper and section or equation.
        Options: model of the options.
        options: the options of this instance.
        required_attributes: class attributes without a default, besides ``name``, that every plugin of a kind has to
            set.
        is_library: whether the class stands for a library of plugins, which it makes by :meth:`library_plugin`; it is
            then never selected by its own name.
    """

    kind: ClassVar[Kind]
    name: ClassVar[str]
    reference: ClassVar[str] = ""
    Options: ClassVar[type[PluginOptions]] = PluginOptions
    required_attributes: ClassVar[tuple[str, ...]] = ()
    is_library: ClassVar[bool] = False

    options: Any

    @classmethod
    def library_plugin(cls, name: str) -> type[Plugin] | None:
        """Return the plugin of this name in the library that the class stands for; None where there is none.

        The registry asks when no plugin itself has the name.
        """
        del name
        return None

    @classmethod
    def library_names(cls) -> Iterable[str]:
        """Return the names that :meth:`library_plugin` knows, for suggestions."""
        return ()

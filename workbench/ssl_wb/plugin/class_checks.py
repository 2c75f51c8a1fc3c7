"""Whether a class is a complete plugin of its kind, which can be seen without making one."""

from __future__ import annotations

import re

from pydantic import ValidationError

from ssl_wb.plugin.base import Plugin, PluginOptions
from ssl_wb.plugin.kinds import KindSpec

__all__ = ["FaultError", "checked_class", "class_fault"]

_KEBAB_CASE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


class FaultError(Exception):
    """A plugin that breaks its contract; the message is for its author."""


def class_fault(offer: object, spec: KindSpec) -> str:
    """Return what is wrong with a class as a plugin of a kind; nothing where it is complete."""
    try:
        checked_class(offer, spec)
    except FaultError as fault:
        return str(fault)
    return ""


def checked_class(offer: object, spec: KindSpec) -> type[Plugin]:
    """Return ``offer`` if it is a complete plugin of the kind.

    Args:
        offer: what a hook returned.
        spec: the kind.

    Raises:
        FaultError: what is wrong with it.
    """
    if not isinstance(offer, type):
        raise FaultError(f"{spec.hook} returned {offer!r}, which is not a class")
    where = offer.__qualname__
    if not issubclass(offer, spec.base):
        raise FaultError(f"{spec.hook} returned {where}, which is not a subclass of ssl_wb.api.{spec.base.__name__}")
    missing = sorted(getattr(offer, "__abstractmethods__", ()))
    if missing:
        raise FaultError(f"{where} does not implement {', '.join(missing)}")
    name = getattr(offer, "name", None)
    if not isinstance(name, str) or not _KEBAB_CASE.fullmatch(name):
        raise FaultError(f"{where}.name is {name!r}; it must be a kebab-case string such as 'my-{spec.kind}'")
    unset = [attribute for attribute in spec.base.required_attributes if not hasattr(offer, attribute)]
    if unset:
        raise FaultError(f"{where} does not set {', '.join(unset)}")
    if not (offer.__doc__ or "").strip():
        raise FaultError(f"{where} has no docstring; its first paragraph is the summary in list-plugins")
    options = getattr(offer, "Options", None)
    if not isinstance(options, type) or not issubclass(options, PluginOptions):
        raise FaultError(f"{where}.Options must be a subclass of ssl_wb.api.PluginOptions, not {options!r}")
    taken = sorted(spec.own_keys & options.model_fields.keys())
    if taken:
        raise FaultError(f"{where}.Options has {taken[0]!r}, a key of the recipe's own; rename the option")
    _check_defaults(options, where)
    return offer


def _check_defaults(options: type[PluginOptions], where: str) -> None:
    """Check that the defaults of options keep the options' own bounds: a recipe that gives none must load.

    Raises:
        FaultError: one does not; the message names it.
    """
    try:
        options()
    except ValidationError as error:
        # An option without a default is the recipe's to give.
        faults = [fault for fault in error.errors(include_url=False) if fault["type"] != "missing"]
        if faults:
            first = faults[0]
            option = ".".join(map(str, first["loc"])) or "its defaults together"
            raise FaultError(
                f"{where}.Options: the default of {option} breaks its own bounds: {first['msg']}"
            ) from None

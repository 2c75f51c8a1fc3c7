"""The checks that all kinds of plugin share: the class, and its options."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import tomli_w
from pydantic import ValidationError

from ssl_wb.plugin.base import PluginOptions
from ssl_wb.plugin.class_checks import class_fault
from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.testing.checks import Check, Checks, Subject

__all__ = ["common_checks"]

_CHECKS: Checks[Subject[Any]] = Checks("plugin")
#: Keys of a JSON Schema that bound a number.
_BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "enum", "const"}


def common_checks() -> list[Check[Any]]:
    """Return the checks that every kind starts with."""
    return list(_CHECKS.all)


@_CHECKS
def plugin_class(subject: Subject[Any]) -> None:
    """The class has all that its kind asks for: base class, methods, name in kebab-case, docstring, options that accept
    their own defaults.
    """
    spec = KINDS.get(getattr(subject.plugin, "kind", ""))
    if spec is None:
        refuse(subject.plugin, f"be of a kind: {', '.join(KINDS)}", repr(getattr(subject.plugin, "kind", None)))
    fault = class_fault(subject.plugin, spec)
    if fault:
        refuse(subject.plugin, f"be a complete {spec.kind}", fault)


@_CHECKS
def options_documented(subject: Subject[Any]) -> None:
    """Every option has a description."""
    for name, field in subject.plugin.Options.model_fields.items():
        if not (field.description or "").strip():
            refuse(subject.plugin, "describe every option, Field(..., description=...)", f"{name!r} without one")


@_CHECKS
def options_bounded(subject: Subject[Any]) -> None:
    """Every number among the options has a bound, such as ``ge=0``; options of the kind's own base are left out."""
    inherited = KINDS[subject.plugin.kind].base.Options.model_fields
    properties = subject.plugin.Options.model_json_schema().get("properties", {})
    for name, field in subject.plugin.Options.model_fields.items():
        known = inherited.get(name)
        if known is not None and (known.annotation, known.metadata) == (field.annotation, field.metadata):
            continue
        for part in _numbers(properties.get(field.alias or name, {})):
            if not _BOUNDS & part.keys():
                refuse(subject.plugin, "bound every number among its options", f"{name!r} without a bound")


def _numbers(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the numbers within a JSON Schema: alternatives, items of lists."""
    if schema.get("type") in ("integer", "number"):
        yield schema
    items = schema.get("items")
    for part in [*schema.get("anyOf", ()), *schema.get("prefixItems", ()), *([items] if items else [])]:
        yield from _numbers(part)


@_CHECKS
def options_strict(subject: Subject[Any]) -> None:
    """Unknown options are refused, and options cannot be changed once they are read."""
    options = subject.options
    try:
        subject.plugin.Options.model_validate({**options.model_dump(), "no_such_option": 1})
    except ValidationError:
        pass
    else:
        refuse(subject.plugin, "refuse unknown options, as PluginOptions does", "an option that is not declared")
    if not options.model_config.get("frozen"):
        refuse(subject.plugin, "have frozen options, as PluginOptions has", "options that can be changed")


@_CHECKS
def options_saved(subject: Subject[Any]) -> None:
    """Options survive the resolved recipe of a run: written as TOML and read again, they are equal."""
    options: PluginOptions = subject.options
    written = tomli_w.dumps(options.model_dump(mode="json", by_alias=True, exclude_none=True))
    again = type(options).model_validate(tomllib.loads(written))
    if again != options:
        changed = [name for name in type(options).model_fields if getattr(again, name) != getattr(options, name)]
        refuse(subject.plugin, "have options that a TOML file can hold", f"{', '.join(changed)} changed")

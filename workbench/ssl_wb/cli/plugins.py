"""``ssl-wb list-plugins`` and ``ssl-wb describe``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ssl_wb.cli import completion
from ssl_wb.cli.output import JsonFlag, echo_json, echo_table
from ssl_wb.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ssl_wb.plugin.base import Kind, Plugin
    from ssl_wb.plugin.registry import PluginRecord

__all__ = ["describe", "list_plugins", "plugin_json"]


def _kind(word: str) -> Kind:
    """Return ``word`` as a kind of plugin.

    Raises:
        UsageError: there is no such kind.
    """
    from ssl_wb.plugin.kinds import KINDS

    if word not in KINDS:
        raise UsageError(
            f"no kind of plugin is called {word!r}{did_you_mean(word, KINDS)}",
            hint=f"kinds: {', '.join(KINDS)}",
        )
    return word


def plugin_json(record: PluginRecord) -> dict[str, Any]:
    """Return one plugin for ``list-plugins --json``; kind and error are null where there is none."""
    facts = ("kind", "name", "distribution", "version", "status", "summary")
    return {**{key: getattr(record, key) for key in facts}, "error": record.error or None}


def list_plugins(
    kind: Annotated[
        str | None, typer.Option(help="Only this kind, as masker or evaluator.", autocompletion=completion.kinds)
    ] = None,
    as_json: Annotated[bool, JsonFlag] = False,
) -> None:
    """List the installed plugins, including those that do not work."""
    wanted = _kind(kind) if kind else None
    from ssl_wb.plugin.registry import load_registry

    registry = load_registry()
    # A plugin that failed before it could name its kind may be of any kind: it is listed with each.
    records = [record for record in registry.records if not wanted or record.kind in (wanted, None)]
    if as_json:
        echo_json([plugin_json(record) for record in records])
        return
    echo_table(
        ["KIND", "NAME", "DISTRIBUTION", "VERSION", "STATUS", "SUMMARY"],
        [
            [
                *(record.kind or "?", record.name, record.distribution, record.version, record.status),
                record.error or record.summary,
            ]
            for record in records
        ],
    )


def describe(
    kind: Annotated[
        str, typer.Argument(help="Kind of plugin, as masker or evaluator.", autocompletion=completion.kinds)
    ],
    name: Annotated[
        str, typer.Argument(help="Name of the plugin, or distribution/name.", autocompletion=completion.plugin_names)
    ],
    as_json: Annotated[bool, JsonFlag] = False,
) -> None:
    """Show what a plugin does, where it comes from and its options."""
    wanted = _kind(kind)
    from ssl_wb.plugin.registry import load_registry

    registry = load_registry()
    record = registry.record(wanted, name)
    plugin = cast("type[Plugin]", record.plugin)  # a record that answers to a name has its class
    if as_json:
        facts = {key: getattr(record, key) for key in ("kind", "name", "distribution", "version", "summary")}
        schema = plugin.Options.model_json_schema()
        echo_json({**facts, "reference": plugin.reference, "schema": schema})
        return
    typer.echo(f"{record.kind} {record.name}  ({record.distribution} {record.version})\n")
    typer.echo(inspect.getdoc(plugin))
    if plugin.reference:
        typer.echo(f"\nReference: {plugin.reference}")
    if plugin.is_library:
        typer.echo(f"\nNames: {', '.join(sorted(plugin.library_names())) or 'none, the library is not installed'}.")
        return
    rows = _option_rows(plugin.Options)
    if not rows:
        typer.echo("\nIt takes no options.")
        return
    typer.echo("")
    echo_table(["OPTION", "TYPE", "DEFAULT", "BOUNDS", "MEANING"], rows)


def _option_rows(options: type[BaseModel]) -> list[list[str]]:
    """Return name, type, default, bounds and meaning of each option."""
    schema = options.model_json_schema()
    definitions = schema.get("$defs", {})
    rows = []
    for name, field in options.model_fields.items():
        key = field.alias or name
        described = schema["properties"][key]
        default = "(required)" if field.is_required() else _toml(field.get_default(call_default_factory=True))
        constraints = (_type_of(described, definitions), default, _bounds_of(described, definitions))
        rows.append([key, *constraints, field.description or ""])
    return rows


def _toml(value: Any) -> str:
    """Write a default as in a recipe."""
    if value is None:
        return "(none)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        return f'"{value}"'
    text = _number(value)
    # Keep the ".0" of a whole float: a duration of 1.0 is the whole run, one of 1 is a single step.
    return f"{text}.0" if isinstance(value, float) and text.lstrip("-").isdigit() else text


def _alternatives(described: dict[str, Any], definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas that a value may fit, references followed and null left out."""
    if "$ref" in described:
        return _alternatives(definitions[described["$ref"].rpartition("/")[2]], definitions)
    parts = described.get("anyOf", described.get("oneOf"))
    if parts is None:
        return [] if described.get("type") == "null" else [described]
    return [one for part in parts for one in _alternatives(part, definitions)]


def _type_of(described: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Name the type of a JSON Schema in the words of TOML."""
    words = []
    for one in _alternatives(described, definitions):
        if "enum" in one or "const" in one:
            words += [_toml(value) for value in one.get("enum", [one.get("const")])]
        elif one.get("type") == "array":
            words.append(f"list of {_type_of(one.get('items', {}), definitions)}")
        else:
            words.append({"object": "table"}.get(one.get("type", "any"), one.get("type", "any")))
    return " or ".join(dict.fromkeys(words))


_LIMITS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "multipleOf": "multiple of {}",
    "pattern": "matches {}",
}


def _bounds_of(described: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Write the bounds of a JSON Schema, one part for each type that has any."""
    alternatives = _alternatives(described, definitions)
    parts = []
    for one in alternatives:
        limits = [text.format(_number(one[key])) for key, text in _LIMITS.items() if key in one]
        if "minItems" in one and one.get("minItems") == one.get("maxItems"):
            limits = [f"{one['minItems']} items"]
        inner = _bounds_of(one["items"], definitions) if one.get("type") == "array" and "items" in one else ""
        limits += [f"each {inner}"] if inner else []
        if limits:
            prefix = f"{one.get('type')} " if len(alternatives) > 1 else ""
            parts.append(prefix + ", ".join(limits))
    return "; ".join(parts)


def _number(value: Any) -> str:
    return f"{value:.8g}" if isinstance(value, float) else str(value)

"""JSON Schema of a recipe with the installed plugins' options, for editors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ssl_wb.plugin.base import Plugin
from ssl_wb.plugin.kinds import KINDS, KindSpec
from ssl_wb.recipe.schema import document_model

if TYPE_CHECKING:
    from ssl_wb.plugin.registry import PluginRecord, Registry

__all__ = ["recipe_schema"]


def recipe_schema(registry: Registry) -> dict[str, Any]:
    """Describe a recipe as JSON Schema, draft 2020-12.

    A section that names a plugin is one of several tables, one for each installed plugin, told apart by
    ``name``. With ``extends`` nothing is required.

    Args:
        registry: the plugins.
    """
    schema = document_model(registry).model_json_schema(ref_template="#/$defs/{model}")
    definitions: dict[str, Any] = schema.pop("$defs")
    selecting = [spec for spec in KINDS.values() if spec.section]
    for spec in selecting:
        definitions[spec.section_model.__name__] = _plugin_section(spec, registry, definitions)
    required = schema.pop("required")
    named = {spec.section[0]: {"required": ["name"]} for spec in selecting if spec.required and not spec.listed}
    schema["properties"] = {
        "extends": {
            "type": "string",
            "description": "Path or name of one recipe that this one starts from.",
        },
        **schema["properties"],
    }
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "ssl-wb recipe",
        "anyOf": [
            {"title": "extends another recipe", "required": ["extends"]},
            {"title": "whole recipe", "required": required, "properties": named},
        ],
        "$defs": definitions,
    }
    cleaned: dict[str, Any] = _without_null(whole)
    return cleaned


def _plugin_section(spec: KindSpec, registry: Registry, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a section: one table for each plugin of the kind.

    Nested models of plugin options are added to ``definitions``.
    """
    own = spec.section_model.model_json_schema()
    names = registry.names(spec.kind)
    branches = [_branch(registry.record(spec.kind, name), name, own, definitions) for name in names]
    libraries = [record.name for record in registry.libraries(spec.kind)]
    if not spec.listed and branches:
        # A child recipe may change an option without naming the plugin again; lists it replaces whole.
        branches.append(_unnamed(spec, branches, library=bool(libraries)))
    if libraries:
        branches.append(_from_library(libraries, names))
    # No "type" here, only in the branches: tombi would complain that this table has no keys of its own.
    return {"description": own["description"], "oneOf": branches}


def _unnamed(spec: KindSpec, branches: list[dict[str, Any]], *, library: bool) -> dict[str, Any]:
    """Return the table without a name: options of the default plugin, or of the one that an extended recipe names.

    Args:
        spec: the kind.
        branches: the tables of its plugins.
        library: whether a library has more plugins, whose options are not known here.
    """
    found: dict[str, list[Any]] = {}
    # The default's come first, because editors show the first description.
    for branch in sorted(branches, key=lambda branch: branch["title"] != spec.default):
        for key, value in branch["properties"].items():
            if value not in found.setdefault(key, []):
                found[key].append(value)
    del found["name"]
    return {
        "title": "options of the plugin that the extended recipe names" if spec.default is None else spec.default,
        "type": "object",
        "properties": {key: values[0] if len(values) == 1 else {"anyOf": values} for key, values in found.items()},
        "additionalProperties": library,
        "not": {"required": ["name"]},
    }


def _from_library(libraries: list[str], names: list[str]) -> dict[str, Any]:
    """Return the table of a plugin that a library has: its options are known when the library is imported."""
    described = f"A plugin of {', '.join(libraries)}, with its own options."
    return {
        "title": f"of {', '.join(libraries)}",
        "type": "object",
        "properties": {"name": {"type": "string", "description": described, "not": {"enum": names}}},
        "required": ["name"],
        "additionalProperties": True,
    }


def _branch(record: PluginRecord, name: str, own: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the table of one plugin: the section's own keys and the plugin's options."""
    prefix = f"{record.kind}.{name.replace('/', '.')}."
    plugin = cast(type[Plugin], record.plugin)  # a record that answers to a name has its class
    # References are prefixed, so that two plugins' models of one name do not mix.
    options = plugin.Options.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    for model, definition in options.pop("$defs", {}).items():
        definitions[prefix + model] = definition
    keys = {
        **own["properties"],
        "name": {**own["properties"]["name"], "enum": sorted({name, record.qualified})},
    }
    return {
        "title": name,
        "type": "object",
        "description": record.summary,
        "properties": {**keys, **options.get("properties", {})},
        "required": list(dict.fromkeys(["name", *own.get("required", []), *options.get("required", [])])),
        "additionalProperties": False,
    }


def _without_null(value: Any) -> Any:
    """Drop null from types and defaults: TOML has none, and editors would offer it."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if not isinstance(value, dict):
        return value
    cleaned = {key: _without_null(item) for key, item in value.items() if not (key == "default" and item is None)}
    branches = cleaned.get("anyOf")
    if isinstance(branches, list) and {"type": "null"} in branches:
        rest = [branch for branch in branches if branch != {"type": "null"}]
        del cleaned["anyOf"]
        cleaned = {**rest[0], **cleaned} if len(rest) == 1 else {"anyOf": rest, **cleaned}
    return cleaned

"""The page of every key of a recipe, from its JSON Schema."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["as_markdown", "escape", "recipe_keys"]


#: Docstrings of plugins by (kind, name).
Texts = dict[tuple[str, str], str]
Schema = dict[str, Any]


def recipe_keys(schema: Schema, texts: Texts, note: str) -> str:
    """Return a table of keys for every section of a recipe and every plugin that it can name."""
    whole = {"properties": schema["properties"], "required": []}
    parts = [
        f"# Every key of a recipe\n\n{note}\n"
        "A recipe is a TOML file. This page lists its sections, their keys and the options of the bundled plugins, as "
        "`ssl-wb schema` has them. `ssl-wb describe KIND NAME` prints the same for any installed plugin. A *duration* "
        "is a whole number of steps or a share of the run (0.1 is a tenth, 1.0 all of it).\n",
        "## Top level\n",
        *section("", whole, schema["$defs"], texts),
    ]
    return "\n".join(parts)


def section(path: str, described: Schema, definitions: dict[str, Schema], texts: Texts) -> list[str]:
    """Return the table of a section's keys, those of its plugins, and the sections inside it.

    Args:
        path: its keys, joined by dots; "" is the top.
        described: its schema.
        definitions: what references lead to.
        texts: docstrings of plugins.
    """
    parts = []
    branches = [one for one in described.get("oneOf", []) if "name" in one.get("properties", {})]
    for branch in branches:
        level = "#" * (3 + path.count("."))
        name, named = branch["title"], branch["properties"]["name"]
        if "enum" not in named:  # plugins of a library, whose options are known when it is imported
            parts.append(f"{level} Other names\n\n{named.get('description', '')}\n")
            continue
        options = {key: value for key, value in branch["properties"].items() if key != "name"}
        body = table(options.items(), set(branch.get("required", [])), definitions) if options else "No options.\n"
        text = as_markdown(docstring_of(path, name, texts) or branch.get("description", ""))
        parts.append(f'{level} `name = "{name}"`\n\n{text}\n\n{body}')
    own, inner = [], []
    for key, value in described.get("properties", {}).items():
        found = table_in(value, definitions)
        if found is None:
            own.append((key, value))
            continue
        below, several = found
        where = f"{path}.{key}".strip(".")
        heading = f"[[{where}]]" if several else f"[{where}]"
        level = "##" if not path else "###"
        inner.append(f"{level} `{heading}`\n\n{below.get('description', value.get('description', ''))}\n")
        inner += section(where, below, definitions, texts)
    if own:
        parts.append(table(own, set(described.get("required", [])), definitions))
    return [*parts, *inner]


def table_in(value: Schema, definitions: dict[str, Schema]) -> tuple[Schema, bool] | None:
    """Return the schema of the table that a key holds, and whether it holds a list of them; None for plain keys."""
    for part in alternatives(value):
        several = part.get("type") == "array"
        found = resolve(part.get("items", {}) if several else part, definitions)
        if found.get("properties") or any("properties" in branch for branch in found.get("oneOf", [])):
            return found, several
    return None


def docstring_of(path: str, name: str, texts: Texts) -> str:
    """Return the docstring of the plugin that a section names: sections are called nearly as kinds are."""
    key = path.rpartition(".")[2][:6]
    return next(
        (text for (kind, plugin), text in texts.items() if (kind.replace("-", "_")[:6], plugin) == (key, name)), ""
    )


def table(rows: Any, required: set[str], definitions: dict[str, Any]) -> str:
    """Return a table of keys with type, default, bounds and meaning."""
    lines = ["| key | type | default | bounds | meaning |", "| --- | --- | --- | --- | --- |"]
    for key, value in rows:
        default = f"`{toml(value['default'])}`" if "default" in value else "required" if key in required else ""
        cells = [
            f"`{key}`",
            kind_of(value, definitions),
            default,
            bounds(value, definitions),
            value.get("description", ""),
        ]
        lines.append("| " + " | ".join(escape(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def resolve(value: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return definitions[value["$ref"].rpartition("/")[2]] if "$ref" in value else value


def alternatives(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in value.get("anyOf", value.get("oneOf", [value])) if "not" not in part]


def kind_of(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Name the type of a key as a reader of TOML would."""
    words = []
    for one in alternatives(value):
        found = resolve(one, definitions)
        if "enum" in found or "const" in found:
            words += [f"`{toml(each)}`" for each in found.get("enum", [found.get("const")])]
        elif found.get("type") == "array":
            words.append(f"list of {kind_of(found.get('items', {}), definitions)}")
        else:
            kind = found.get("type", "object" if "oneOf" in found else "any")  # a section is one of several tables
            words.append("table" if kind == "object" else kind)
    return " or ".join(dict.fromkeys(words))


LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


def bounds(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return the bounds of a key, one part for each type that has any."""
    parts = []
    several = alternatives(value)
    for one in several:
        found = resolve(one, definitions)
        limits = [text.format(number(found[key])) for key, text in LIMITS.items() if key in found]
        if "minItems" in found:
            most = found.get("maxItems")
            limits.append(f"{most} items" if most == found["minItems"] else f"at least {found['minItems']} items")
        if found.get("type") == "array" and (inner := bounds(found.get("items", {}), definitions)):
            limits.append(f"each {inner}")
        if limits:
            parts.append((f"{found['type']} " if len(several) > 1 else "") + ", ".join(limits))
    return "; ".join(parts)


def toml(value: Any) -> str:
    """Write a value as a recipe would have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(toml(one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else number(value)


def number(value: Any) -> str:
    return f"{value:.8g}" if isinstance(value, float) and not value.is_integer() else str(value)


def escape(cell: str) -> str:
    """Keep a cell in its table: no line breaks, no bars."""
    return " ".join(cell.split()).replace("|", "\\|").replace("``", "`")


def as_markdown(text: str) -> str:
    """Keep a docstring as it reads: literals as code, no accidental emphasis or tags."""
    return re.sub(r"(?<!`)([*_<])", r"\\\1", text.replace("``", "`")) if "`" not in text else text.replace("``", "`")

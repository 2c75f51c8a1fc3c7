"""The page of every key of a recipe, from its JSON Schema."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["as_markdown", "escape", "recipe_keys"]


def recipe_keys(schema: dict[str, Any], texts: dict[tuple[str, str], str], note: str) -> str:
    """Return a table of keys for every section of a recipe and every plugin that it can name."""
    definitions = schema["$defs"]
    plain, sections = [], []
    for key, value in schema["properties"].items():
        several = value.get("type") == "array"
        inner = resolve(value["items"] if several else value, definitions)
        if "oneOf" in inner or inner.get("properties"):
            sections.append(section_text(key, several, value, inner, definitions, texts))
        else:
            plain.append((key, value))
    parts = [
        f"# Every key of a recipe\n\n{note}\n"
        "A recipe is a TOML file. This page lists its sections, their keys and the options of the bundled plugins, as "
        "`ssl-wb schema` has them. `ssl-wb describe KIND NAME` prints the same for any installed plugin. A *duration* "
        "is a whole number of steps or a share of the run (0.1 is a tenth, 1.0 all of it).\n",
        "## Top level\n\n" + table(plain, set(), definitions),
        *sections,
    ]
    return "\n".join(parts)


def section_text(
    key: str,
    several: bool,
    value: dict[str, Any],
    inner: dict[str, Any],
    definitions: dict[str, Any],
    texts: dict[tuple[str, str], str],
) -> str:
    """Return heading, description and tables of one section."""
    heading = f"[[{key}]]" if several else f"[{key}]"
    lines = [f"## `{heading}`\n\n{inner.get('description', value.get('description', ''))}\n"]
    if "oneOf" not in inner:
        return "\n".join([*lines, tables(key, inner, definitions)])
    for branch in inner["oneOf"]:
        if "name" not in branch.get("properties", {}):
            continue
        name = branch["title"]
        kinds = [kind for kind, plugin in texts if plugin == name and kind.replace("-", "_")[:6] == key[:6]]
        text = texts[kinds[0], name] if kinds else branch.get("description", "")
        options = {k: v for k, v in branch["properties"].items() if k != "name"}
        body = table(options.items(), set(branch.get("required", [])), definitions) if options else "No options.\n"
        lines.append(f'### `name = "{name}"`{{ #{key}-{name} }}\n\n{as_markdown(text)}\n\n{body}')
    return "\n".join(lines)


def tables(key: str, section: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return the table of a section, then those of the sections inside it."""
    own, nested = [], []
    for name, value in section["properties"].items():
        inside = [
            (one, part.get("type") == "array")
            for part in alternatives(value)
            for one in [resolve(part.get("items", part), definitions)]
            if one.get("properties") and ("$ref" in part or "$ref" in part.get("items", {}))
        ]
        if inside:
            one, several = inside[0]
            path = f"[[{key}.{name}]]" if several else f"[{key}.{name}]"
            nested.append(
                f"### `{path}`\n\n{one.get('description', '')}\n\n{tables(f'{key}.{name}', one, definitions)}"
            )
        else:
            own.append((name, value))
    return "\n".join([table(own, set(section.get("required", [])), definitions), *nested])


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

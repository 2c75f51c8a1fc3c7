"""A validator of just the JSON Schema words that recipes use."""

from __future__ import annotations

import re
from typing import Any

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}
ANNOTATIONS = {"title", "description", "default", "$schema", "$defs"}


def is_valid(value: Any, schema: Any, root: dict) -> bool:
    """Whether ``value`` agrees with ``schema``; fails on a keyword it does not know."""
    if isinstance(schema, bool):
        return schema
    checks = {
        "$ref": lambda word: is_valid(value, resolve(word, root), root),
        "type": lambda word: isinstance(value, TYPES[word]) and (isinstance(value, bool) == (word == "boolean")),
        "enum": lambda word: value in word,
        "const": lambda word: value == word,
        "anyOf": lambda word: any(is_valid(value, one, root) for one in word),
        "oneOf": lambda word: sum(is_valid(value, one, root) for one in word) == 1,
        "not": lambda word: not is_valid(value, word, root),
        "required": lambda word: not isinstance(value, dict) or all(key in value for key in word),
        "properties": lambda word: (
            not isinstance(value, dict)
            or all(is_valid(value[key], one, root) for key, one in word.items() if key in value)
        ),
        "additionalProperties": lambda word: (
            not isinstance(value, dict)
            or all(key in schema.get("properties", {}) or is_valid(item, word, root) for key, item in value.items())
        ),
        "items": lambda word: not isinstance(value, list) or all(is_valid(item, word, root) for item in value),
        "prefixItems": lambda word: all(is_valid(item, one, root) for item, one in zip(value, word, strict=False)),
        "pattern": lambda word: not isinstance(value, str) or re.search(word, value) is not None,
        "minItems": lambda word: not isinstance(value, list) or len(value) >= word,
        "maxItems": lambda word: not isinstance(value, list) or len(value) <= word,
        "minimum": lambda word: not isinstance(value, int | float) or value >= word,
        "maximum": lambda word: not isinstance(value, int | float) or value <= word,
        "exclusiveMinimum": lambda word: not isinstance(value, int | float) or value > word,
        "exclusiveMaximum": lambda word: not isinstance(value, int | float) or value < word,
    }
    return all(checks[key](word) for key, word in schema.items() if key not in ANNOTATIONS)


def resolve(reference: str, root: dict) -> Any:
    node: Any = root
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node

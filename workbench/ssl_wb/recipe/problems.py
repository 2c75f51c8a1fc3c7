"""Mistakes in a recipe as messages: where, what was expected, what was found, what was probably meant."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ssl_wb.errors import did_you_mean
from ssl_wb.recipe.tree import LIST_SECTIONS, NAMED_LISTS, Location, Origin, Tree, item_names

__all__ = ["Problem", "check_model", "found", "key_text", "known_keys"]

M = TypeVar("M", bound=BaseModel)

_SHORT_LIST = 20
_SHORT_VALUE = 60
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

# pydantic's error types in the words of a TOML author; {..} are filled from the error's context.
_EXPECTED = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("string_type", "path_type"), "text"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "a table"),
    **dict.fromkeys(("literal_error", "enum"), "{expected}"),
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "multiple_of": "a multiple of {multiple_of:g}",
    "too_short": "a list of at least {min_length} values",
    "too_long": "a list of at most {max_length} values",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
}


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        origin: who wrote it.
        at: the key, () for the document.
        text: what is wrong.
        kind: pydantic's error type, or a word of ours.
        shown: the key as the user would address it.
    """

    origin: Origin
    at: Location
    text: str
    kind: str
    shown: str = ""

    def __str__(self) -> str:
        key = self.shown or ".".join(str(part) for part in self.at)
        return ": ".join(part for part in (str(self.origin), key, self.text) if part)


def found(value: Any) -> str:
    """Describe a TOML value."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        if not value:
            return "an empty list"
        text = json.dumps(value, default=str, ensure_ascii=False)
        plain = len(text) <= _SHORT_VALUE and not any(isinstance(item, dict) for item in value)
        return text if plain else f"a list of {len(value)}"
    if isinstance(value, str):
        return f"the text {value[:_SHORT_VALUE]!r}" if value else "an empty text"
    return json.dumps(value, default=str).lower()


def key_text(at: Location, tree: Tree) -> str:
    """Write a location as ``--set`` addresses it: items by name where it is unique, by index otherwise."""
    parts: list[str] = []
    for depth, key in enumerate(at):
        part = str(key)
        if isinstance(key, int) and at[:depth] in NAMED_LISTS and at[depth + 1 :] != ("name",):
            names = item_names(tree.value(at[:depth]))
            if names.count(names[key]) == 1:
                part = names[key] or part
        parts.append(part if _BARE_KEY.fullmatch(part) else f'"{part}"')
    return ".".join(parts)


def known_keys(model: type[BaseModel]) -> list[str]:
    """Return the keys a table of ``model`` may have."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models anywhere inside an annotation, as in ``list[A | B] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _keys_at(model: type[BaseModel], at: Location) -> list[str]:
    """Return the keys known at ``at`` within a table of ``model``."""
    models = [model]
    for key in at:
        if isinstance(key, str):
            fields = [one.model_fields[key] for one in models if key in one.model_fields]
            models = [inner for field in fields for inner in _models(field.annotation)]
    return [key for one in models for key in known_keys(one)]


def _place(error: ErrorDetails, document: Any) -> Location:
    """Return the error's location in the document, without pydantic's names for the branches of a union."""
    at: Location = ()
    value: Any = document
    for depth, key in enumerate(error["loc"]):
        keys: Container[Any] = value if isinstance(value, dict) else ()
        if isinstance(value, list):
            keys = range(len(value))
        if key in keys:
            value = value[key]
            at = (*at, key)
        elif error["type"] == "missing" and depth == len(error["loc"]) - 1:
            at = (*at, key)
    return at


def _expectation(error: ErrorDetails) -> str:
    """Say what pydantic expected, in TOML's words."""
    try:
        return _EXPECTED[error["type"]].format(**error.get("ctx", {}))
    except (KeyError, ValueError, TypeError):  # a type or a bound that recipes had no use for so far
        return error["msg"].removeprefix("Input should be ").removeprefix("a valid ")


def _mismatch(errors: Sequence[ErrorDetails], value: Any, at: Location) -> str:
    """Say what was expected, by any branch of a union, and what was found."""
    expected = " or ".join(dict.fromkeys(_expectation(error) for error in errors))
    text = f"expected {expected}, found {found(value)}"
    kinds = {error["type"] for error in errors}
    header = ".".join(key for key in at if isinstance(key, str))  # as TOML writes a table in an item of a list
    if isinstance(value, str):
        words = [
            word for error in errors for word in re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
        ]
        if guess := did_you_mean(value, words):
            return text + guess
        if kinds & {"int_type", "float_type", "bool_type"} and re.fullmatch(r"[\d.eE+_-]+|true|false", value):
            return f"{text}; leave the quotes out"
    elif kinds == {"list_type"} and isinstance(value, dict):
        return f"{text}; write [[{header}]]"
    elif kinds <= {"model_type"} and isinstance(value, list) and isinstance(at[-1], str):
        return f"{text}; write [{header}], once"
    elif kinds <= {"string_type", "path_type"} and not isinstance(value, dict | list):
        return f"{text}; put it in quotes"
    elif kinds == {"int_type"} and isinstance(value, float) and value.is_integer():
        return f"{text}; write {int(value)}"
    return text


def _blamed(at: Location, text: str, tree: Tree) -> Location:
    """Return the key that a message about the table at ``at`` names; a key given by an override first."""
    table = tree.value(at)
    if not isinstance(table, dict):
        return at
    named = [(*at, key) for key in table if re.search(rf"\b{re.escape(key)}\b", text)]
    by_override = [key for key in named if tree.origin(key).override is not None]
    return next(iter(by_override or named), at)


def check_model(
    model: type[M],
    values: dict[str, Any],
    at: Location,
    tree: Tree,
    *,
    also: Sequence[str] = (),
    owner: str = "",
) -> M | list[Problem]:
    """Validate a table by a model.

    Strictly, and as JSON: the text "3" is no number, and a list is a tuple where one is wanted.

    Args:
        model: the section's or the plugin's model.
        values: the table.
        at: its place in the recipe.
        tree: the recipe, for origins.
        also: keys that are right here though the model does not know them.
        owner: who has these keys, as ``masker 'random'``.

    Returns:
        The model, or everything that is wrong.
    """
    try:
        return model.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        grouped: dict[Location, list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            grouped.setdefault(_place(detail, values), []).append(detail)
    problems: list[Problem] = []
    for inner, details in grouped.items():
        here, kind = (*at, *inner), details[0]["type"]
        origin = tree.origin(here)
        # A model's own validator words its message itself.
        own = next((one for one in details if one["type"] in ("value_error", "assertion_error")), None)
        if own is not None:
            text = str(own.get("ctx", {}).get("error", own["msg"]))
            origin = tree.origin(_blamed(here, text, tree))
        elif kind == "missing":
            header = f"[[{here[0]}]]" if here[0] in LIST_SECTIONS else f"[{here[0]}]"
            text = "required and missing" if len(here) > 1 else f"the recipe needs a section {header}"
        elif kind == "extra_forbidden":
            choices = _keys_at(model, inner[:-1])
            top = len(inner) == 1
            text = _unknown(str(inner[-1]), [*also, *choices] if top else choices, owner if top else "")
        else:
            text = _mismatch(details, tree.value(here), here)
        problems.append(Problem(origin, here, text, kind, key_text(here, tree)))
    return problems


def _unknown(key: str, choices: Sequence[str], owner: str) -> str:
    """Say that a key is not known, and which are."""
    text = f"unknown key{did_you_mean(key, choices)}"
    if not choices:
        return f"{text} ({owner or 'this'} takes no keys)"
    if len(choices) <= _SHORT_LIST:
        text += f" ({owner + ' takes' if owner else 'known here'}: {', '.join(choices)})"
    return text

"""Shell completion: names of recipes and plugins, and the keys of ``--set``.

A completion must answer within a fraction of a second, and importing the plugins takes seconds. So the names and keys
are collected once for a set of installed plugins and kept for a day in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import typer

__all__ = ["evaluator_settings", "evaluators", "kinds", "maskers", "plugin_names", "recipes", "settings", "sweeps"]

#: Seconds for which collected words are kept: an editable plugin may change its options without a new version.
LIFETIME = 24 * 3600


def recipes(incomplete: str) -> list[str]:
    """Complete the name of a shipped recipe; the shell itself completes paths."""
    names: list[str] = []
    with suppress(Exception):
        from ssl_wb.recipe.files import bundled_recipes

        names += bundled_recipes()
        # Plugins' recipes only if they were collected before: names of recipes should never wait for torch.
        names += [name for name in _kept().get("recipes", ()) if name not in names]
    return _matching(names, incomplete)


def sweeps(incomplete: str) -> list[str]:
    """Complete the name of a shipped sweep; the shell itself completes paths."""
    names: list[str] = []
    with suppress(Exception):
        from ssl_wb.recipe.files import shipped_sweeps

        names += shipped_sweeps()
    return _matching(names, incomplete)


def kinds(incomplete: str) -> list[str]:
    """Complete a kind of plugin."""
    return _matching(_words().get("plugins", {}), incomplete)


def plugin_names(context: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a plugin of the kind that stands before it."""
    return _matching(_words().get("plugins", {}).get(context.params.get("kind"), ()), incomplete)


def evaluators(incomplete: str) -> list[str]:
    """Complete the name of an evaluator."""
    return _matching(_words().get("plugins", {}).get("evaluator", ()), incomplete)


def maskers(incomplete: str) -> list[str]:
    """Complete the name of a masker, and behind ``name:`` the keys of its options."""
    words = _words()
    name, colon, typed = incomplete.partition(":")
    if not colon:
        return _matching(words.get("plugins", {}).get("masker", ()), incomplete)
    before, _, _ = typed.rpartition(",")
    start = f"{name}:{before}," if before else f"{name}:"
    keys = _keys(words.get("schema", {}), {"masker": {"name": name}}, ["masker"])
    return _matching([f"{start}{key.removeprefix('masker.')}=" for key in keys if key != "masker.name"], incomplete)


def settings(context: typer.Context, incomplete: str) -> list[str]:
    """Complete a key of ``--set`` from the recipe that stands before it: its own plugins and objectives."""
    values: dict[str, Any] = {}
    # While the value of `--set` is missing, the parser leaves the recipe among the words it has not yet assigned.
    recipe = context.params.get("recipe") or next(iter(context.args), None)
    if recipe is not None:
        with suppress(Exception):  # no such recipe, or one with mistakes: keys of every plugin
            values = _values(recipe)
    return _matching([f"{key}=" for key in _keys(_words().get("schema", {}), values)], incomplete)


def evaluator_settings(context: typer.Context, incomplete: str) -> list[str]:
    """Complete ``EVALUATOR.KEY`` for the evaluators that are named, or for all."""
    words = _words()
    names = context.params.get("evaluator") or words.get("plugins", {}).get("evaluator", ())
    found: list[str] = []
    for name in names:
        keys = _keys(words.get("schema", {}), {"evaluate": [{"name": name}]}, ["evaluate"])
        options = [key.removeprefix("evaluate.") for key in keys if key.rpartition(".")[2] not in words["own_keys"]]
        found += [f"{option}=" for option in options]
    return _matching(found, incomplete)


def _matching(words: Any, incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _words() -> dict[str, Any]:
    """Return the plugins' names by kind, the recipes' names and the schema of recipes; nothing if they are broken."""
    kept = _kept()
    if kept:
        return kept
    with suppress(Exception), Path(os.devnull).open("w") as nowhere:
        # What is printed here would become a completion, or appear in the middle of the user's command line.
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            words = _collect()
        place = _place()
        if place is not None:
            from ssl_wb.files import write_atomically

            write_atomically(place, json.dumps(words), sync=False)
        return words
    return {}


def _collect() -> dict[str, Any]:
    from ssl_wb.plugin.kinds import KINDS
    from ssl_wb.plugin.registry import load_registry
    from ssl_wb.recipe.files import shipped_recipes
    from ssl_wb.recipe.jsonschema import recipe_schema

    registry = load_registry()
    return {
        "plugins": {kind: registry.names(kind) for kind in KINDS},
        "own_keys": sorted(KINDS["evaluator"].own_keys),  # of the recipe's section: not options of the evaluator
        "recipes": list(shipped_recipes(registry)),
        "schema": recipe_schema(registry),
    }


def _kept() -> dict[str, Any]:
    """Return what was collected before for the same plugins, if that is not too long ago."""
    with suppress(Exception):
        place = _place()
        if place is not None and time.time() - place.stat().st_mtime < LIFETIME:
            kept: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
            return kept
    return {}


def _place() -> Path | None:
    """Return the file of the collected words; its name stands for the installed plugins and their versions."""
    from ssl_wb import __version__
    from ssl_wb.files import cache_folder

    installed = [__version__, *sorted(map(str, metadata.entry_points(group="ssl_wb")))]
    installed += [one.dist.version for one in metadata.entry_points(group="ssl_wb") if one.dist is not None]
    digest = hashlib.sha256("\n".join(installed).encode()).hexdigest()[:16]
    folder = cache_folder()
    return None if folder is None else folder / f"completion-{digest}.json"


def _values(recipe: str) -> dict[str, Any]:
    """Read a recipe and what it extends, as far as its sections name plugins."""
    import tomli

    from ssl_wb.recipe.files import find_recipe

    path = find_recipe(recipe)
    chain = [tomli.loads(path.read_text(encoding="utf-8"))]
    while "extends" in chain[0] and len(chain) < 10:  # a longer chain is a circle
        above = path.parent / str(chain[0]["extends"])
        path = above if above.is_file() else find_recipe(str(chain[0]["extends"]))
        chain.insert(0, tomli.loads(path.read_text(encoding="utf-8")))
    merged: dict[str, Any] = {}
    for layer in chain:
        for key, value in layer.items():
            inherited = merged.get(key)
            tables = isinstance(value, dict) and isinstance(inherited, dict)
            merged[key] = {**(inherited or {}), **value} if tables else value
    return merged


def _keys(schema: dict[str, Any], values: Any, only: list[str] | None = None) -> list[str]:
    """Return the keys that ``--set`` takes for a recipe of these values, in the order of the schema."""
    if not schema:
        return []
    found: list[str] = []
    for name, node in schema["properties"].items():
        if (only is None and name != "extends") or (only is not None and name in only):
            found += _below(schema, node, values.get(name), name)
    return list(dict.fromkeys(found))


def _below(root: dict[str, Any], node: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """Yield the keys of a value's schema below ``path``: one of each key, one of each named item of a list."""
    for table in _tables(root, node, value):
        if "items" in table:
            items = [item for item in value or () if isinstance(item, dict) and "name" in item]
            for item in items:
                keys = _below(root, table["items"], item, f"{path}.{item['name']}")
                yield from (key for key in keys if key != f"{path}.{item['name']}.name")
        for key, child in table.get("properties", {}).items():
            yield from _below(root, child, value.get(key) if isinstance(value, dict) else None, f"{path}.{key}")
        if "properties" not in table:
            yield path


def _tables(root: dict[str, Any], node: dict[str, Any], value: Any) -> list[dict[str, Any]]:
    """Return the alternatives of a schema with references followed: those that fit ``value``'s plugin, else all."""
    if "$ref" in node:
        return _tables(root, root["$defs"][node["$ref"].rpartition("/")[2]], value)
    parts = node.get("oneOf", node.get("anyOf"))
    if parts is None:
        return [node]
    tables = [table for part in parts for table in _tables(root, part, value) if "not" not in table]
    name = value.get("name") if isinstance(value, dict) else None
    fitting = [one for one in tables if name in one.get("properties", {}).get("name", {}).get("enum", ())]
    return fitting or tables

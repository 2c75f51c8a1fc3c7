"""The resolved recipe: one file that says everything, written into each run."""

from __future__ import annotations

from typing import Any

import tomli_w

from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["resolved", "to_toml"]


def _without_none(value: Any) -> Any:
    """Drop None values, which TOML cannot say; they are the defaults of the keys that have them."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value


def resolved(loaded: LoadedRecipe) -> dict[str, Any]:
    """Return the recipe with every default written out, plugin options included, and no ``extends``.

    Loading its TOML gives a recipe equal to ``loaded``.
    """
    values: dict[str, Any] = _without_none(loaded.recipe.model_dump(mode="json", by_alias=True))
    return values


def to_toml(values: dict[str, Any]) -> str:
    """Write ``values`` as TOML."""
    return tomli_w.dumps(values)

"""``ssl-wb schema``."""

from __future__ import annotations

from ssl_wb.cli.output import echo_json

__all__ = ["schema"]


def schema() -> None:
    """Print the JSON Schema of a recipe with the options of all installed plugins, for editors."""
    from ssl_wb.plugin.registry import load_registry
    from ssl_wb.recipe.jsonschema import recipe_schema

    echo_json(recipe_schema(load_registry()))

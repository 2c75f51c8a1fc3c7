"""The shipped recipes with the installed plugins."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tomli
from schema_checker import is_valid

from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.files import bundled_recipes
from ssl_wb.recipe.jsonschema import recipe_schema
from ssl_wb.recipe.load import load_recipe, resolved, to_toml


@pytest.fixture(scope="module")
def schema():
    return recipe_schema(load_registry())


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_each_loads_resolves_and_agrees_with_the_schema(name, schema, tmp_path):
    loaded = load_recipe(name)
    copy = tmp_path / "resolved.toml"
    copy.write_text(to_toml(resolved(loaded)), encoding="utf-8")
    assert load_recipe(copy) == loaded
    assert is_valid(resolved(loaded), schema, schema)
    assert is_valid(tomli.loads(loaded.source), schema, schema)


def test_finding_and_reading_recipes_does_not_import_torch():
    code = (
        "import sys, ssl_wb.recipe.load, ssl_wb.recipe.jsonschema, ssl_wb.recipe.files as locate;"
        "locate.find_recipe('quickstart'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

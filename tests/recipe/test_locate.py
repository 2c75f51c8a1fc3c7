"""Where recipes are found."""

from __future__ import annotations

import pytest
from recipe_fakes import GOOD, PLUGINS, REGISTRY, registry_of

from ssl_wb.errors import UsageError
from ssl_wb.recipe.files import bundled_recipes, find_recipe, shipped_recipes


def test_the_bundled_recipes_are_there():
    assert {"quickstart", "matpac", "matpac-plus-plus", "matpac-plus-plus-small"} <= bundled_recipes().keys()
    assert all(path.is_file() for path in bundled_recipes().values())


def test_a_checkout_wins_over_a_stale_copy(write, tmp_path):
    write("", "checkout/pyproject.toml")
    mine = write("", "checkout/recipes/mine.toml")
    write("", "checkout/workbench/ssl_wb/shipped_recipes/stale.toml")
    assert bundled_recipes(tmp_path / "checkout" / "workbench" / "ssl_wb") == {"mine": mine}


def test_a_wheel_carries_its_own(write, tmp_path):
    write("", "recipes/not-ours.toml")  # a folder of that name near site-packages is no checkout
    carried = write("", "lib/site-packages/ssl_wb/shipped_recipes/carried.toml")
    assert bundled_recipes(tmp_path / "lib" / "site-packages" / "ssl_wb") == {"carried": carried}
    assert bundled_recipes(tmp_path / "nowhere" / "else" / "ssl_wb") == {}


def test_recipes_of_plugins_follow_by_their_own_or_their_qualified_name(write):
    fresh, taken = write(GOOD, "a/fresh.toml"), write(GOOD, "a/matpac.toml")
    again = write(GOOD, "b/fresh.toml")
    registry = registry_of(*PLUGINS, recipes=(("one", fresh), ("one", taken), ("two", again)))
    found = shipped_recipes(registry)
    assert found["fresh"] == fresh
    assert found["one/matpac"] == taken
    assert found["two/fresh"] == again
    assert found["matpac"] == bundled_recipes()["matpac"]
    assert find_recipe("two/fresh", registry=registry) == again


def test_a_file_wins_over_a_shipped_name(write, tmp_path):
    path = write(GOOD, "matpac")
    assert find_recipe("matpac", registry=REGISTRY) == path
    assert find_recipe(tmp_path / "matpac", registry=REGISTRY) == path
    assert find_recipe("quickstart", registry=REGISTRY).name == "quickstart.toml"
    assert find_recipe("quickstart.toml", registry=REGISTRY) == bundled_recipes()["quickstart"]


def test_home_is_expanded(write, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write(GOOD, "r.toml")
    assert find_recipe("~/r.toml", registry=REGISTRY) == path


def test_what_is_not_there(write, tmp_path):
    write(GOOD)
    with pytest.raises(UsageError, match="called 'quikstart'; did you mean 'quickstart'") as caught:
        find_recipe("quikstart", registry=REGISTRY)
    assert "matpac-plus-plus" in caught.value.hint
    with pytest.raises(UsageError, match="is a folder"):
        find_recipe(tmp_path, registry=REGISTRY)
    with pytest.raises(UsageError, match="'~nobody-here/x'"):
        find_recipe("~nobody-here/x", registry=REGISTRY)


def test_bundled_names_do_not_ask_plugins(write, monkeypatch):
    monkeypatch.setattr("ssl_wb.plugin.registry.load_registry", lambda: pytest.fail("plugins were loaded"))
    assert find_recipe("quickstart").is_file()

"""Recipes in a temporary working directory."""

from __future__ import annotations

import pytest
from recipe_fakes import REGISTRY

from ssl_wb.errors import RecipeError
from ssl_wb.recipe.load import load_recipe


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write recipe files into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "recipe.toml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def mistakes(write):
    """Load a recipe that is wrong and return its messages."""

    def mistakes(text: str, *overrides: str) -> list[str]:
        write(text)
        with pytest.raises(RecipeError) as caught:
            load_recipe("recipe.toml", overrides, registry=REGISTRY)
        assert caught.value.exit_code == 3
        return caught.value.problems

    return mistakes

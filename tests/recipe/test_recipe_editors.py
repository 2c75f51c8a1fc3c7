"""`ssl-wb schema` with what editors use: tombi and taplo accept the shipped recipes and find mistakes."""

from __future__ import annotations

import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
import tomli
from schema_checker import is_valid

from ssl_wb.cli.main import run

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
MISTAKES = {
    "an unknown key": ('title = "M2D, small"', 'titel = "M2D, small"'),
    "an unknown plugin": ('name = "random"', 'name = "randon"'),
    "an option of another plugin": ('name = "random"', 'name = "random"\nlayer = 2'),
    "a value out of bounds": ("ratio = 0.7", "ratio = 1.7"),
    "a text for a number": ("steps = 1200", 'steps = "1200"'),
    "a missing section": ('[[objective]]\nname = "malap"\ntarget = "standardised"\n', ""),
}


@pytest.fixture
def folder(tmp_path, capsys):
    """The shipped recipes beside the schema that they name."""
    assert run(["schema"]) == 0
    (tmp_path / "recipe.schema.json").write_text(capsys.readouterr().out)
    for path in RECIPES:
        (tmp_path / path.name).write_text(path.read_text())
    return tmp_path


def accepts(tool: str, *paths: Path) -> bool:
    """Whether a linter accepts files; skips where it is not installed."""
    try:
        program = next(str(file.locate()) for file in metadata.files(tool) or () if file.name in (tool, f"{tool}.exe"))
    except (metadata.PackageNotFoundError, StopIteration):
        pytest.skip(f"{tool} is not installed")
    options = {"tombi": ["--offline", "--error-on-warnings"], "taplo": ["--no-auto-config"]}[tool]
    words = [program, "lint", *options, *map(str, paths)]
    return subprocess.run(words, cwd=paths[0].parent, capture_output=True, check=False, timeout=60).returncode == 0


def with_mistake(name: str) -> str:
    old, new = MISTAKES[name]
    text = next(path for path in RECIPES if path.stem == "m2d-small").read_text()
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize("tool", ["tombi", "taplo"])
def test_shipped_recipes_are_accepted(folder, tool):
    assert accepts(tool, *sorted(folder.glob("*.toml")))


@pytest.mark.parametrize("tool", ["tombi", "taplo"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found(folder, tool, mistake):
    wrong = folder / "wrong.toml"
    wrong.write_text(with_mistake(mistake))
    assert not accepts(tool, wrong)


def test_without_a_linter(folder):
    schema = json.loads((folder / "recipe.schema.json").read_text())
    for path in RECIPES:
        assert is_valid(tomli.loads(path.read_text()), schema, schema), path.name
    for mistake in MISTAKES:
        assert not is_valid(tomli.loads(with_mistake(mistake)), schema, schema), mistake

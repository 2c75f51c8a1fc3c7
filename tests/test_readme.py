"""The README is short and true: set-up lines, commands, recipes, links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ssl_wb.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RECIPES = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / name for name in ("README.md", "recipes/README.md", "plugins/README.md", "CHANGELOG.md")]

SET_UP = """
python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/ssl-wb train recipes/quickstart.toml
.venv/bin/pip install -e '.[test]' && .venv/bin/pytest
"""


def test_the_two_lines_of_set_up_are_there_word_for_word():
    assert SET_UP in README


def test_it_is_short():
    assert len(README.splitlines()) < 150


def test_every_verb_and_every_recipe_is_named():
    verbs = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    for verb in verbs:
        assert verb in README
    for path in (ROOT / "recipes").glob("*.toml"):
        assert f"`{path.stem}`" in RECIPES


def test_named_verbs_exist():
    verbs = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert set(re.findall(r"`ssl-wb ([a-z-]+)", README)) <= verbs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_every_bundled_plugin_is_registered_and_listed():
    listed = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
    registered = re.findall(r'^[\w-]+ = "ssl_wb_plugins\.[\w.]+"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    names = set(re.findall(r"^\| [\w-]+ \| `([\w-]+)` \|", listed, re.MULTILINE))
    assert len(names) >= len(registered)

"""The README says what is."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from ssl_wb.api import Grid, MaskRequest
from ssl_wb.cli.main import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

SET_UP = """
python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/ssl-wb train recipes/quickstart.toml
.venv/bin/pip install -e '.[test]' && .venv/bin/pytest
"""


def test_the_two_lines_of_set_up_are_there_word_for_word():
    assert SET_UP in README


def test_every_verb_and_every_recipe_is_named():
    verbs = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    for verb in verbs:
        assert verb in README
    for path in (ROOT / "recipes").glob("*.toml"):
        assert f"`{path.stem}`" in README


def test_named_verbs_exist():
    verbs = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    assert set(re.findall(r"`ssl-wb ([a-z-]+)", README)) <= verbs


def test_the_plugin_example_runs():
    (source,) = re.findall(r"```python\n(# checkerboard\.py\n.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(compile(source, "README.md", "exec"), names)
    (plugin,) = names["ssl_wb_maskers"]()
    (mask,) = plugin(plugin.Options(phase=1))(MaskRequest(torch.zeros(2, 12, 4), Grid(3, 4), 0.0, torch.Generator()))
    assert mask.masked[1].tolist() == [1, 3, 4, 6, 9, 11]

"""Every command of every page is parsed by the real command line; the cheap ones are run."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import tomli
import typer
from pages import PAGES, PLACEHOLDER, ROOT, all_commands, named, shell_lines

from ssl_wb.cli.main import app, run
from ssl_wb.errors import WorkbenchError
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.files import bundled_recipes, shipped_sweeps
from ssl_wb.recipe.load import load_recipe

COMMANDS = all_commands()
#: Verbs whose first argument is a recipe.
OF_RECIPES = {"train", "validate", "preview", "bench"}
#: Verbs that only read what is installed.
CHEAP = {"recipes", "list-plugins", "describe", "tasks", "schema", "doctor"}


def parse(words: list[str]):
    """Parse words as ``ssl-wb`` would, without running anything."""
    command = typer.main.get_command(app)
    context = command.make_context("ssl-wb", list(words))
    while hasattr(command, "commands"):
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not rest:
            return
        command = command.commands[rest[0]]
        context = command.make_context(rest[0], rest[1:], parent=context)


def options_of(words: list[str]) -> set[str]:
    """Return the options of the command that words name; KeyError where there is none."""
    command = typer.main.get_command(app)
    known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    for word in words:
        if not hasattr(command, "commands") or word.startswith("-") or PLACEHOLDER.match(word):
            break
        command = command.commands[word]
        known |= {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return known


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.whole], ids=str)
def test_a_line_of_a_block_parses(command):
    values = {"N": "2", "M": "2", "R": "0", "HZ": "16000", "$SLURM_NODEID": "1"}
    parse([values.get(word, word) for word in command.words])


@pytest.mark.parametrize("command", [one for one in COMMANDS if not one.whole], ids=str)
def test_verb_and_options_in_running_text_exist(command):
    options = [word for word in command.words if word.startswith("--") and "." not in word]
    assert set(options) - {"--help"} <= options_of(command.words)


def settings_of(words: list[str]) -> list[str]:
    return [value for flag, value in pairwise(words) if flag == "--set"]


RECIPES = [one for one in COMMANDS if one.words[0] in OF_RECIPES and one.words[1:]]


@pytest.mark.parametrize("command", RECIPES, ids=str)
def test_its_recipe_exists_and_takes_its_settings(command, tmp_path):
    name = command.words[1]
    if name.startswith("-") or PLACEHOLDER.match(name) or "/" in name.removeprefix("recipes/"):
        return
    if name.endswith(".toml") and not name.startswith("recipes/"):
        return  # a recipe of the reader's
    assert name.removeprefix("recipes/").removesuffix(".toml") in bundled_recipes()
    settings = [one for one in settings_of(command.words) if not PLACEHOLDER.match(one.partition("=")[2])]
    settings = [one for one in settings if "checkerboard" not in one and "=" in one and "KEY" not in one]
    load_recipe(name.removeprefix("recipes/").removesuffix(".toml"), settings)


SWEEPS = [one for one in COMMANDS if one.words[0] == "sweep" and one.words[1:] and one.whole]


@pytest.mark.parametrize("command", SWEEPS, ids=str)
def test_its_sweep_exists(command):
    name = command.words[1]
    assert name.endswith(".toml") or PLACEHOLDER.match(name) or name in shipped_sweeps()  # a file of the reader's


def runnable(words: list[str]) -> bool:
    return words[0] in CHEAP and not any(PLACEHOLDER.match(word) for word in words) and "make" not in words


RUN = sorted({tuple(one.words) for one in COMMANDS if one.whole and runnable(one.words)})


@pytest.mark.parametrize("words", RUN, ids=" ".join)
def test_cheap_ones_run(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(list(words)) == 0
    assert capsys.readouterr().out or "copy" in words


def test_validate_runs_without_data(capsys):
    assert run(["validate", "quickstart"]) == 0
    assert "trained" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_extras_and_files_of_other_commands_exist(page):
    extras = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    text = page.read_text(encoding="utf-8")
    for group in re.findall(r"(?:ssl-wb|\.)\[([a-z,]+)\]'?", text):
        assert set(group.split(",")) <= set(extras), group
    for line in shell_lines(page):
        for script in re.findall(r"(?:^|\s)python (?!-)(\S+\.py)", line):
            assert (ROOT / script).is_file(), line
        for config in re.findall(r"mkdocs \w+ -f (\S+)", line):
            assert (ROOT / config).is_file(), line


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_files_that_a_page_names_exist(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for name in re.findall(r"`((?:workbench|plugins|tests|recipes|\.ci)/[\w./-]+)`", text):
        assert (ROOT / name).exists() or "NAME" in name, name
    for name in re.findall(r"`(measured/[\w.-]+)`", text):
        assert (ROOT / "workbench" / "docs" / name).is_file(), name


def test_describe_names_plugins_that_exist():
    registry = load_registry()
    for command in COMMANDS:
        words = command.words
        if words[0] == "describe" and len(words) == 3 and not any(PLACEHOLDER.match(word) for word in words):
            try:
                registry.record(words[1], words[2])  # type: ignore[arg-type]
            except WorkbenchError as failure:
                pytest.fail(f"{command}: {failure}")


def test_pages_are_found():
    assert len(PAGES) > 20
    assert len(COMMANDS) > 80
    assert Path(ROOT, "README.md") in PAGES

"""`recipes` and `schema`."""

from __future__ import annotations

import json

import pytest

from ssl_wb.cli.main import run
from ssl_wb.plugin.registry import Registry


@pytest.fixture(autouse=True)
def plugins(monkeypatch, tmp_path):
    """One plugin that ships one recipe, in place of the installed plugins."""
    recipe = tmp_path / "shipped" / "from-a-plugin.toml"
    recipe.parent.mkdir()
    recipe.write_text("# what it is\ntitle = 'From a plugin'\n", encoding="utf-8")
    monkeypatch.setattr("ssl_wb.plugin.registry._cached", Registry([], [("samples", recipe)]))
    return recipe


@pytest.mark.parametrize("words", [["recipes", "--json"], ["recipes", "list", "--json"]])
def test_list_as_json(capsys, plugins, words):
    assert run(words) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert listed["from-a-plugin"] == {
        "name": "from-a-plugin",
        "title": "From a plugin",
        "path": str(plugins),
    }
    assert "quickstart" in listed


@pytest.mark.parametrize("words", [["recipes"], ["recipes", "list"]])
def test_list_as_text(capsys, words):
    assert run(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "TITLE"]
    assert any(line.split() == ["from-a-plugin", "From", "a", "plugin"] for line in lines)


@pytest.mark.parametrize("content", [b"title = ", b"\xff\xfe"])
def test_a_recipe_that_cannot_be_read_is_still_listed(capsys, plugins, content):
    plugins.write_bytes(content)
    assert run(["recipes", "--json"]) == 0
    listed = {one["name"]: one["title"] for one in json.loads(capsys.readouterr().out)}
    assert listed["from-a-plugin"] == ""


def test_show_prints_the_file(capsys, plugins):
    assert run(["recipes", "show", "from-a-plugin"]) == 0
    assert capsys.readouterr().out == plugins.read_text()


def test_an_unknown_recipe(capsys):
    assert run(["recipes", "show", "from-plugin"]) in (2, 3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did you mean 'from-a-plugin'?" in captured.err


def test_copy_to_a_file_and_into_a_folder(capsys, plugins, tmp_path):
    assert run(["recipes", "copy", "from-a-plugin", str(tmp_path / "mine.toml")]) == 0
    assert run(["recipes", "copy", "from-a-plugin", str(tmp_path)]) == 0
    for name in ("mine.toml", "from-a-plugin.toml"):
        assert (tmp_path / name).read_text() == plugins.read_text()
    assert capsys.readouterr().out.splitlines() == [
        str(tmp_path / "mine.toml"),
        str(tmp_path / "from-a-plugin.toml"),
    ]


def test_copy_does_not_overwrite(capsys, tmp_path):
    target = tmp_path / "mine.toml"
    target.write_text("precious")
    assert run(["recipes", "copy", "from-a-plugin", str(target)]) == 2
    assert target.read_text() == "precious"
    assert capsys.readouterr().err == (
        f"error: {target} exists and is not overwritten\nhint: name another file, or move it away\n"
    )


def test_copy_into_a_folder_that_is_not_there(capsys, tmp_path):
    target = tmp_path / "absent" / "mine.toml"
    assert run(["recipes", "copy", "from-a-plugin", str(target)]) == 2
    assert f"error: cannot write {target}: No such file or directory" in capsys.readouterr().err


def test_json_before_the_word_is_told_where_it_belongs(capsys):
    assert run(["recipes", "--json", "list"]) == 2
    assert "hint: ssl-wb recipes list --json" in capsys.readouterr().err


def test_schema_is_json_and_nothing_else(capsys):
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert {"masker", "backbone", "objective", "train"} <= schema["properties"].keys()

"""Tasks of other packages: found, listed, made into manifests and known by the manifest's name, as the bundled ones."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest
from task_trees import put, text

from ssl_wb.cli.main import run
from ssl_wb.errors import PluginError, UsageError
from ssl_wb.plugin.registry import load_registry
from ssl_wb.tasks.installed import find_task, installed_tasks
from ssl_wb.tasks.task import load_task
from task_fakes import labelled, write_manifest

SAMPLE = Path(__file__).parents[1] / "third_party" / "frogs"

INCOMPLETE = '''
from ssl_wb.api import Task, hookimpl

class Newts(Task):
    """Newts."""

    name = "newts"
    title = "Newts"
    domain = "animals"

    def rows(self, root):
        return []

@hookimpl
def ssl_wb_tasks():
    return [Newts]
'''


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Install modules beside the bundled plugins for the time of a test."""
    offered = list(importlib.metadata.entry_points(group="ssl_wb"))

    def install(folder: Path, module: str) -> None:
        monkeypatch.syspath_prepend(folder)
        entry_point = EntryPoint(module.removeprefix("ssl_wb_"), module, "ssl_wb")
        offered.append(entry_point._for(SimpleNamespace(name=module.replace("_", "-"), version="0.1.0")))
        load_registry(refresh=True)

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: offered)
    yield install
    monkeypatch.undo()
    for name in ("ssl_wb_frogs", "ssl_wb_newts"):
        sys.modules.pop(name, None)
    load_registry(refresh=True)


@pytest.fixture
def frogs(install, tmp_path):
    """The sample, installed, and a download of its data set."""
    install(SAMPLE, "ssl_wb_frogs")
    root = tmp_path / "download"
    text(root, "calls.csv", "file,species,pond", *(f"{n}.wav,{['tree', 'pool'][n % 2]},{n // 2}" for n in range(6)))
    put(root, *(f"audio/{n}.wav" for n in range(6)))
    return root


def test_it_is_listed_in_a_domain_of_its_own(frogs, capsys):
    assert run(["tasks", "--json"]) == 0
    *_, last = json.loads(capsys.readouterr().out)
    assert (last["name"], last["domain"], last["multi_label"]) == ("frogs", "animals", False)
    assert run(["list-plugins", "--kind", "task", "--json"]) == 0
    listed = {(one["distribution"], one["name"], one["summary"]) for one in json.loads(capsys.readouterr().out)}
    assert ("ssl-wb-frogs", "frogs", "Calls of frogs, recorded at three ponds; each pond is a fold.") in listed


def test_its_manifest_is_a_task(frogs, tmp_path):
    out = tmp_path / "calls.csv"
    assert run(["tasks", "make", "frogs", "--root", str(frogs), "--out", str(out)]) == 0
    task = load_task(out)
    assert task.classes == ("pool", "tree")
    assert [split.name for split in task.splits] == ["fold 0", "fold 1", "fold 2"]
    assert (task.domain, task.measure.name) == ("animals", "macro F1")


def test_a_manifest_of_its_name_is_known(frogs, tmp_path):
    manifest = write_manifest(tmp_path / "own", labelled(12, fold=lambda n: str(n // 2 % 3)))
    assert load_task(manifest.rename(manifest.with_name("frogs.csv"))).measure.name == "macro F1"


def test_a_name_nearly_right_is_told(frogs, capsys):
    assert run(["tasks", "show", "frog"]) == 2
    assert "no task is called 'frog'; did you mean 'frogs'?" in capsys.readouterr().err


def test_a_task_without_what_it_must_say_is_left_out(install, tmp_path, caplog):
    (tmp_path / "ssl_wb_newts.py").write_text(INCOMPLETE)
    install(tmp_path, "ssl_wb_newts")
    missing = "metric, clip_seconds, division, homepage, licence, layout"
    assert f"(ssl-wb-newts 0.1.0) is broken and left out: Newts does not set {missing}" in caplog.text
    assert "newts" not in installed_tasks()
    with pytest.raises(PluginError, match="Newts does not set metric"):
        find_task("newts")
    with pytest.raises(UsageError, match="no task is called 'newt'"):
        find_task("newt")

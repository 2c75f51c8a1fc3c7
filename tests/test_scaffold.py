"""``ssl-wb new-plugin``: what it writes is a plugin that works, for every kind."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from ssl_wb.cli.main import run
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.plugin.registry import load_registry
from ssl_wb.recipe.load import load_recipe
from ssl_wb.scaffold.project import write_project
from ssl_wb.scaffold.texts import SECTIONS

TEMPLATES = Path(write_project.__code__.co_filename).parent / "templates"


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> Path:
    """One project of each kind, all in one folder."""
    folder = tmp_path_factory.mktemp("projects")
    for kind in KINDS:
        write_project(kind, f"my-{kind}", folder / kind)
    return folder


def check(words: list[str], folder: Path, *paths: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder, *paths))), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_kind_has_a_template():
    kinds = {kind.replace("-", "_") for kind in KINDS}
    found = {path.stem for path in TEMPLATES.glob("*.py")} - {"__init__"}
    assert found == kinds | {f"{kind}_test" for kind in kinds}


def test_its_own_tests_pass(projects):
    modules = [projects / kind for kind in KINDS]
    tests = [str(path) for path in projects.glob("*/tests/*.py")]
    assert len(tests) == len(KINDS)
    check(["pytest", "-q", "-p", "no:cacheprovider", *tests], projects, *modules)


def test_ruff_finds_nothing(projects):
    check(["ruff", "check", "--no-cache", "."], projects)
    check(["ruff", "format", "--check", "--no-cache", "."], projects)


@pytest.mark.slow
def test_mypy_strict_finds_nothing(projects):
    modules = [projects / kind for kind in KINDS]
    packages = [word for kind in KINDS for word in ("-p", f"ssl_wb_my_{kind.replace('-', '_')}")]
    check(["mypy", "--config-file", "source/pyproject.toml", *packages], projects, *modules)


@pytest.mark.parametrize("kind", KINDS)
def test_the_project_is_found_and_its_recipe_loads(projects, monkeypatch, kind):
    folder = projects / kind
    monkeypatch.syspath_prepend(str(folder))
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    offered = [EntryPoint(*item, "ssl_wb") for item in project["entry-points"]["ssl_wb"].items()]
    registry = load_registry([*entry_points(group="ssl_wb"), *offered])
    record = registry.record(kind, f"my-{kind}")
    assert (record.kind, record.status, record.error) == (kind, "active", "")
    recipes = list(folder.glob("*/*.toml"))
    assert len(recipes) == (kind in SECTIONS)
    for recipe in recipes:
        assert f"my-{kind}" in {path.stem for _, path in registry.recipes()}
        assert load_recipe(str(recipe), registry=registry).recipe.train.steps == 20


# Two of the nine kinds that a recipe selects: a run takes up to 15 s, and the recipes of all kinds load above.
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["masker", "backbone"])
def test_it_trains_20_steps(projects, kind, tmp_path):
    """A folder with metadata stands in for the installation by pip."""
    folder = projects / kind
    module, name = f"ssl_wb_my_{kind.replace('-', '_')}", f"my-{kind}"
    metadata = tmp_path / "site" / f"{module}-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ssl-wb-{name}\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text(f"[ssl_wb]\n{name} = {module}\n")
    small = [] if kind == "source" else ["--set", "data.scenes.clips=120"]
    words = ["ssl_wb", "train", name, "--out", str(tmp_path / "run"), *small]
    check(words, tmp_path, folder, tmp_path / "site")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert any('"step": 20' in line for line in lines)


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["masker", "My Masker"], 2, "'My Masker' is no name of a plugin"),
        (["maskr", "mine"], 2, "did you mean 'masker'?"),
        (["masker", "mine", "--out", "."], 2, "exists already"),
    ],
)
def test_mistakes(words, code, text, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(["new-plugin", *words]) == code
    assert text in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_prints_the_folder(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(["new-plugin", "masker", "stripes"]) == 0
    assert capsys.readouterr().out == "ssl-wb-stripes\n"
    assert "class Stripes(Masker):" in (tmp_path / "ssl-wb-stripes/ssl_wb_stripes/__init__.py").read_text()

"""`doctor`: what it says of a healthy installation, and of each way to break one."""

from __future__ import annotations

import importlib
import json
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import tomli

from ssl_wb.api import Masker
from ssl_wb.cli import doctor
from ssl_wb.cli.main import run
from ssl_wb.plugin.registry import PluginRecord, Registry

ROOT = Path(__file__).parents[2]


def active(kind, name):
    return PluginRecord(kind, name, "samples", "1.0", "active", plugin=Masker)


WHOLE = [active("masker", "a"), active("objective", "b"), active("backbone", "c"), active("evaluator", "d")]


@pytest.fixture
def plugins(monkeypatch):
    """Set the plugins at hand."""

    def use(*records):
        monkeypatch.setattr("ssl_wb.plugin.registry._cached", Registry(records))

    use(*WHOLE)
    return use


@pytest.fixture
def report(capsys, plugins):
    """Run doctor; return its exit code and its report."""

    def ask():
        code = run(["doctor", "--json"])
        return code, json.loads(capsys.readouterr().out)

    return ask


def problems(answer):
    return {problem["message"]: problem for problem in answer["problems"]}


def the_problem(answer, start):
    (problem,) = [problem for message, problem in problems(answer).items() if message.startswith(start)]
    return problem


def test_a_healthy_installation(report):
    code, answer = report()
    assert code == 0
    assert [problem for problem in answer["problems"] if problem["code"]] == []
    assert answer["torch_and_torchaudio_import"] is True
    assert answer["libraries"]["torch"] == metadata.version("torch")
    assert answer["cpu"]["cores"] >= 1
    cpu = next(one for one in answer["devices"] if one["device"] == "cpu")
    assert cpu["attention"] == "sdpa"
    assert cpu["bf16_native"] in (True, False)
    assert {"WAV", "FLAC", "OGG"} <= set(answer["audio_formats"])
    assert [plugin["name"] for plugin in answer["plugins"]] == ["a", "b", "c", "d"]


def test_as_text(plugins, capsys):
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "torch and torchaudio import together" in text
    assert re.search(r"^objective b +samples 1\.0 +active$", text, re.M)
    assert text.startswith("Training can start.\n")


def test_the_verdict_and_what_is_wrong_come_first(plugins, capsys):
    plugins(active("masker", "a"))
    assert run(["doctor"]) == 4
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first == "Training cannot start."
    assert second.startswith("problem: no working plugin of kind objective, backbone")


@pytest.mark.parametrize(("free", "noted"), [(64 << 20, True), (1 << 30, False), (None, False)])
def test_small_shared_memory_is_noted(report, monkeypatch, free, noted):
    monkeypatch.setattr("ssl_wb.data.workers.free_shared_memory", lambda: free)
    code, answer = report()
    assert code == 0
    assert answer["shared_memory_bytes"] == free
    assert any("/dev/shm has 64 MB free" in message for message in problems(answer)) == noted


@pytest.mark.parametrize(
    "failure",
    [OSError("libc10_cuda.so: cannot open"), RuntimeError("CUDA mismatch\ndetails"), ImportError("no")],
)
def test_torchaudio_beside_an_unsuited_torch(report, monkeypatch, failure):
    real = importlib.import_module

    def fake(name, package=None):
        if name == "torchaudio":
            raise failure
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", fake)
    code, answer = report()
    assert code == 1
    assert answer["torch_and_torchaudio_import"] is False
    problem = the_problem(answer, "torchaudio cannot be imported")
    assert type(failure).__name__ in problem["message"]
    assert f"torch {metadata.version('torch')}" in problem["message"]
    assert "\n" not in problem["message"]
    assert "pip install --force-reinstall 'torch<2.15,>=2.11' 'torchaudio<2.12,>=2.11'" in problem["hint"]


def test_a_checkout_that_is_not_installed(report, plugins, monkeypatch):
    monkeypatch.setattr(doctor, "_distribution", lambda: None)
    plugins()
    code, answer = report()
    assert code == 4
    assert answer["ssl_wb"]["installed"] is False
    assert "pip install -e ." in the_problem(answer, "ssl-wb runs from a checkout that is not")["hint"]
    missing = the_problem(answer, "no working plugin of kind masker, objective, backbone")
    assert missing["code"] == 4
    assert "pip install -e ." in missing["hint"]


def test_entry_points_written_after_the_installation(report, monkeypatch):
    class Stale:
        entry_points = (metadata.EntryPoint("masker-random", "x", "ssl_wb"),)
        requires = ()

    monkeypatch.setattr(doctor, "_distribution", Stale)
    code, answer = report()
    assert code == 0
    problem = the_problem(answer, "registered in pyproject.toml since")
    assert "backbone-vit" in problem["message"]
    assert "masker-random" not in problem["message"]


def test_a_broken_plugin_is_told_and_does_not_prevent_training(report, plugins):
    plugins(*WHOLE, PluginRecord(None, "bad", "wrecks", "1", "broken", error="OSError: x", entry_point="bad"))
    code, answer = report()
    assert code == 0
    problem = the_problem(answer, "plugin 'bad' (wrecks 1) is broken: OSError: x")
    assert "SSL_WB_BLOCK_PLUGINS=bad" in problem["hint"]
    assert problem["code"] == 0


def test_a_kind_without_a_working_plugin_prevents_training(report, plugins):
    plugins(*WHOLE[:1], *WHOLE[2:], PluginRecord("objective", "b", "wrecks", "1", "broken", error="x"))
    code, answer = report()
    assert code == 4
    assert the_problem(answer, "no working plugin of kind objective")["code"] == 4


def test_evaluators_may_be_absent(report, plugins):
    plugins(*WHOLE[:3])
    assert report()[0] == 0


def test_strict_mode_is_reported_not_raised(report, monkeypatch):
    from ssl_wb.errors import PluginError

    def strict():
        raise PluginError("plugin 'x' is broken", hint="do")

    monkeypatch.setattr("ssl_wb.plugin.registry.load_registry", strict)
    code, answer = report()
    assert code == 4
    assert the_problem(answer, "plugin 'x' is broken")["hint"] == "do"


def test_an_absent_library(report, monkeypatch):
    real = metadata.version

    def fake(name):
        if name in ("accelerate", "xformers"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.metadata, "version", fake)
    code, answer = report()
    assert code == 1
    assert answer["libraries"]["accelerate"] is None
    assert the_problem(answer, "not installed: accelerate")["code"] == 1
    assert not [message for message in problems(answer) if "xformers" in message]


def test_a_soundfile_that_does_not_load(report, monkeypatch):
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "soundfile":
                raise OSError("sndfile library not found")

    monkeypatch.delitem(sys.modules, "soundfile", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    code, answer = report()
    assert code == 1
    assert answer["audio_formats"] == []
    assert "sndfile library not found" in the_problem(answer, "soundfile cannot be imported")["message"]


def test_every_dependency_is_looked_at(report, monkeypatch):
    project = tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    words = [*project["dependencies"]]
    names = {re.match(r"[\w.-]+", word).group() for word in words}
    for extra, more in project["optional-dependencies"].items():
        words += [f'{word}; extra == "{extra}"' for word in more]
        if extra not in ("test", "docs"):
            names |= {re.match(r"[\w.-]+", word).group() for word in more}
    monkeypatch.setattr(doctor, "_distribution", declared(words))
    assert set(report()[1]["libraries"]) == names


def declared(requirements):
    """A distribution with these requirements."""
    return type("Declared", (), {"requires": requirements, "entry_points": ()})


def test_requirements_of_other_platforms_do_not_count(report, monkeypatch):
    words = ["torch>=2.11", "absent-there; sys_platform == 'plan9'", "absent-here; sys_platform != 'plan9'"]
    monkeypatch.setattr(doctor, "_distribution", declared(words))
    code, answer = report()
    assert code == 0
    assert set(answer["libraries"]) == {"torch", "absent-here"}


def test_a_version_that_does_not_fit_is_told(report, monkeypatch):
    monkeypatch.setattr(doctor, "_distribution", declared(["tomli>=99", "rich>=1"]))
    code, answer = report()
    assert code == 0
    problem = the_problem(answer, f"tomli {metadata.version('tomli')} is installed, ssl-wb needs >=99")
    assert problem["hint"] == "run `pip install 'tomli>=99'`"

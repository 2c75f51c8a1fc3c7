"""An unexpected error names the plugin that it was raised in."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from ssl_wb.cli.main import _report
from ssl_wb.errors import ExitCode, UsageError
from ssl_wb.plugin.fault import described, plugin_fault
from ssl_wb.plugin.registry import PluginRecord, Registry

SOURCE = """
import torch


class First:
    def __call__(self):
        return helper()

    def call(self, function):
        return function()


class Second(First):
    def run(self):
        return torch.zeros(2) + torch.zeros(3)


def helper():
    raise KeyError("no such mask")
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Two plugins in one file, of another distribution."""
    path = tmp_path / "wrong_masks.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("wrong_masks", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "wrong_masks", module)
    spec.loader.exec_module(module)

    def use(distribution="wrong-masks"):
        records = [
            PluginRecord("masker", name, distribution, "1.2", "active", plugin=plugin)
            for name, plugin in (("first", module.First), ("second", module.Second))
        ]
        monkeypatch.setattr("ssl_wb.plugin.registry._cached", Registry(records))
        return module

    return use


def caught(function):
    with pytest.raises((KeyError, RuntimeError, MemoryError, UsageError)) as error:
        function()
    return error.value


def test_the_plugin_its_distribution_file_and_line_are_named(plugins):
    found = plugin_fault(caught(plugins().First()))
    assert found.exit_code == ExitCode.PLUGIN
    assert found.message == "masker 'first' of wrong-masks 1.2 failed at wrong_masks.py:19: KeyError: 'no such mask'"
    assert "tell its author" in found.hint


def test_of_two_in_one_file_the_object_decides_and_a_library_it_called_does_not_matter(plugins):
    found = plugin_fault(caught(plugins().Second().run))
    assert found.message.startswith(
        "masker 'second' of wrong-masks 1.2 failed at wrong_masks.py:15: RuntimeError: The "
    )


def test_a_bundled_plugin_is_named_with_the_code_of_a_defect(plugins, capsys):
    error = caught(plugins("ssl-wb").First())
    assert _report(error) == ExitCode.UNEXPECTED
    err = capsys.readouterr().err
    assert "unexpected error: masker 'first' of ssl-wb 1.2 failed at wrong_masks.py:19: KeyError" in err
    assert "--debug" in err


def test_described_errors_and_those_of_the_machine_stay_what_they_are(plugins):
    module = plugins()

    def usage():
        raise UsageError("no")

    def memory():
        raise MemoryError

    usual, full = caught(lambda: module.First().call(usage)), caught(lambda: module.First().call(memory))
    assert described(usual) is usual
    assert "memory ran out" in described(full).message
    other = caught(lambda: {}["x"])
    assert described(other) is other

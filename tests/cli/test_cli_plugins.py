"""`list-plugins` and `describe`, with made-up plugins in place of the installed ones."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from ssl_wb.api import Duration, Field, Masker, Objective, PluginOptions
from ssl_wb.cli import output
from ssl_wb.cli.main import run
from ssl_wb.plugin.kinds import KINDS
from ssl_wb.plugin.registry import PluginRecord, Registry


class Options(PluginOptions):
    """Options of the sample."""

    ratio: float = Field(0.7, gt=0.0, lt=1.0, description="Share masked.")
    mode: Literal["soft", "hard"] = Field("soft", description="How.")
    warmup: Duration = 0.1
    count: int | None = Field(None, ge=1, description="How many.")
    range: list[float] = Field(default_factory=lambda: [0.1, 1.0], min_length=2, max_length=2)
    flag: bool = Field(True, description="Whether.")
    needed: int = Field(multiple_of=8, description="Must be given.")


class Sample(Masker):
    """Masks a sample.

    The formula: x = [y].
    """

    name = "sample"
    reference = "A paper, section 3"
    Options = Options

    def __call__(self, request):
        """Return nothing."""
        return ()


class Plain(Objective):
    """Has no options."""

    name = "plain"

    def forward(self, state):
        """Return nothing."""


def record(kind, name, status="active", **more):
    return PluginRecord(kind, name, more.pop("distribution", "samples"), "1.0", status, entry_point=name, **more)


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    records = [
        record("masker", "sample", summary="Masks a sample.", plugin=Sample),
        record("objective", "plain", summary="Has no options.", plugin=Plain),
        record(None, "wreck", "broken", error="RuntimeError: on purpose (wreck.py:3)", distribution="wrecks"),
    ]
    monkeypatch.setattr("ssl_wb.plugin.registry._cached", Registry(records))


def test_list_as_json(capsys):
    assert run(["list-plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[0] == {
        "kind": "masker",
        "name": "sample",
        "distribution": "samples",
        "version": "1.0",
        "status": "active",
        "summary": "Masks a sample.",
        "error": None,
    }
    assert [(one["kind"], one["name"], one["status"]) for one in listed] == [
        ("masker", "sample", "active"),
        ("objective", "plain", "active"),
        (None, "wreck", "broken"),
    ]
    assert listed[2]["error"] == "RuntimeError: on purpose (wreck.py:3)"


def test_list_as_text(capsys):
    assert run(["list-plugins"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "KIND       NAME    DISTRIBUTION  VERSION  STATUS  SUMMARY",
        "masker     sample  samples       1.0      active  Masks a sample.",
        "objective  plain   samples       1.0      active  Has no options.",
        "?          wreck   wrecks        1.0      broken  RuntimeError: on purpose (wreck.py:3)",
    ]


def test_a_kind_and_what_may_be_of_that_kind(capsys):
    assert run(["list-plugins", "--kind", "objective", "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["plain", "wreck"]


@pytest.mark.parametrize("words", [["list-plugins", "--kind", "maskr"], ["describe", "maskr", "sample"]])
def test_an_unknown_kind(capsys, words):
    assert run(words) == 2
    assert capsys.readouterr().err == (
        f"error: no kind of plugin is called 'maskr'; did you mean 'masker'?\nhint: kinds: {', '.join(KINDS)}\n"
    )


def test_describe_as_text(capsys):
    assert run(["describe", "masker", "sample"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("masker sample  (samples 1.0)\n\nMasks a sample.\n\nThe formula: x = [y].\n")
    assert "\nReference: A paper, section 3\n" in text
    rows = [line.split(maxsplit=1)[0] for line in text.splitlines()[8:]]
    assert rows == ["OPTION", "ratio", "mode", "warmup", "count", "range", "flag", "needed"]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("ratio", ["number", "0.7", "> 0, < 1", "Share masked."]),
        ("mode", ['"soft" or "hard"', '"soft"', "How."]),
        ("warmup", ["integer or number", "0.1", "integer >= 0; number >= 0, <= 1", "Steps when a whole"]),
        ("count", ["integer", "(none)", ">= 1", "How many."]),
        ("range", ["list of number", "[0.1, 1.0]", "2 items"]),
        ("flag", ["boolean", "true", "Whether."]),
        ("needed", ["integer", "(required)", "multiple of 8", "Must be given."]),
    ],
)
def test_the_options_table(capsys, option, words):
    run(["describe", "masker", "sample"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{option} ")]
    at = -1
    for word in words:
        assert word in line[at + 1 :], line
        at = line.index(word, at + 1)


def test_describe_without_options_or_reference(capsys):
    assert run(["describe", "objective", "samples/plain"]) == 0
    text = capsys.readouterr().out
    assert text.endswith("It takes no options.\n")
    assert "Reference" not in text


def test_describe_as_json(capsys):
    assert run(["describe", "masker", "sample", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    assert described.pop("schema") == Options.model_json_schema()
    assert described == {
        "kind": "masker",
        "name": "sample",
        "distribution": "samples",
        "version": "1.0",
        "summary": "Masks a sample.",
        "reference": "A paper, section 3",
    }


def test_describe_an_unknown_plugin(capsys):
    assert run(["describe", "masker", "sampel"]) == 4
    error, hint = capsys.readouterr().err.splitlines()
    assert "no masker is called 'sampel'; did you mean 'sample'?" in error
    assert "plugin 'wreck' (wrecks 1.0) failed to load and may provide it" in error
    assert hint == "hint: `ssl-wb list-plugins --kind masker` says what each does"


def test_describe_a_broken_plugin(capsys):
    assert run(["describe", "masker", "wreck"]) == 4
    assert "is broken: RuntimeError: on purpose" in capsys.readouterr().err


def test_on_a_terminal_the_table_is_drawn_and_markup_is_text(monkeypatch, capsys):
    monkeypatch.setattr(output.sys.stdout, "isatty", lambda: True, raising=False)
    output.echo_table(["A", "B"], [["one", "[bold]two[/bold]"]])
    text = capsys.readouterr().out
    assert "[bold]two[/bold]" in text
    assert "─" in text


def test_on_a_narrow_terminal_no_column_vanishes(monkeypatch, capsys):
    monkeypatch.setattr(output.sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    wide = "w" * 30
    output.echo_table(["A", "B", "C", "D"], [["name", wide, wide, "the meaning of it all"]])
    text = capsys.readouterr().out
    assert all(word in text for word in ("name", "the", "meaning", "of", "it", "all"))
    assert text.count("w") == 60


def test_text_in_a_pipe_stays_on_one_line(capsys):
    output.echo_table(["A", "B"], [["one\ttab", "x " * 300 + "\nend"]])
    head, line = capsys.readouterr().out.splitlines()
    assert head == "A        B"
    assert line.startswith("one tab  x x")
    assert line.endswith("x end")

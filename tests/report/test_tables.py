"""The text of result tables, looked at."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ssl_wb.contracts.evaluator import Result
from ssl_wb.evaluate.runner import Row
from ssl_wb.report.tables import lay_out, markdown, print_table


def row(encoder, task="esc10", mean=0.712, *, notes=(), metric="accuracy", evaluator="linear", seeds=3):
    result = Result(
        task, evaluator, metric, mean, (mean - 0.021, mean + 0.024), {"test": mean}, [mean] * seeds, {}, tuple(notes)
    )
    return Row(encoder, task, evaluator, result, chance=0.1)


@pytest.fixture
def rows():
    note = "no validation part: 10 % of train held out"
    return [
        row("run", notes=[note]),
        row("run", "tags", 0.4051, metric="mAP"),
        row("run, untrained", mean=0.5, notes=[note]),
        row("run, untrained", "tags", 0.3, metric="mAP"),
        row("log-mel mean+std", mean=0.6, notes=[note]),
    ]


def drawn(rows, **options):
    out = io.StringIO()
    print_table(rows, Console(file=out, **options))
    return out.getvalue()


def test_the_table_reads_as_it_should(rows):
    lines = [line.rstrip() for line in drawn(rows, width=40).splitlines() if line.strip()]
    assert lines[0].split("  ")[0].strip() == "encoder"
    assert "esc10 (linear, accuracy)" in lines[0]
    assert "tags (linear, mAP)" in lines[0]
    body = [" ".join(line.split()) for line in lines[2:]]
    assert body == [
        "run 71.2 (69.1-73.6) 40.5 (38.4-42.9)",
        "run, untrained 50.0 (47.9-52.4) 30.0 (27.9-32.4)",
        "log-mel mean+std 60.0 (57.9-62.4)",
        "chance 10.0 10.0",
        "Per cent, mean over 3 probe seeds; in brackets the 95 % interval over test clips.",
        "esc10: no validation part: 10 % of train held out",
    ]


def test_it_does_not_wrap_where_nobody_looks(rows):
    many = [row("a very long name of an encoder indeed", f"task number {n}") for n in range(12)]
    text = drawn(many, width=40)
    assert sum("a very long name of an encoder indeed" in line for line in text.splitlines()) == 1
    assert len(max(text.splitlines(), key=len)) > 250


def test_names_that_look_like_markup_are_printed_as_they_are():
    text = drawn([row("[red]run[/red]", "[b]task")])
    assert "[red]run[/red]" in text
    assert "[b]task" in text


def test_markdown_is_a_table_with_notes_below(rows):
    text = markdown(rows)
    assert text.splitlines()[:4] == [
        "| encoder | esc10 (linear, accuracy) | tags (linear, mAP) |",
        "| --- | ---: | ---: |",
        "| run | 71.2 (69.1-73.6) | 40.5 (38.4-42.9) |",
        "| run, untrained | 50.0 (47.9-52.4) | 30.0 (27.9-32.4) |",
    ]
    assert text.endswith("- esc10: no validation part: 10 % of train held out")
    assert text.count("held out") == 1


def test_markdown_keeps_its_columns_whatever_the_names():
    lines = markdown([row("a|b")]).splitlines()
    assert lines[2].startswith("| a\\|b |")


def test_evaluators_have_columns_of_their_own():
    layout = lay_out([row("run"), row("run", evaluator="knn", mean=0.5)])
    assert layout.columns == ["encoder", "esc10 (linear, accuracy)", "esc10 (knn, accuracy)"]
    assert layout.rows[0] == ["run", "71.2 (69.1-73.6)", "50.0 (47.9-52.4)"]
    assert layout.rows[-1] == ["chance", "10.0", "10.0"]


def test_one_seed_is_one_seed():
    assert "mean over 1 probe seed;" in lay_out([row("run", seeds=1)]).notes[0]

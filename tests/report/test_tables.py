"""The text of result tables, looked at."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from ssl_wb.evaluation.runner import Row, Seconds
from ssl_wb.plugin.evaluator import ProbeTask, Result, Split, SplitScores
from ssl_wb.report.details import lay_out_details
from ssl_wb.report.tables import as_csv, lay_out, lay_out_differences, lay_out_seconds, markdown, print_table
from ssl_wb.scoring.summary import summarise


def row(encoder, task="esc10", mean=0.712, *, notes=(), metric="accuracy", evaluator="linear", seeds=3, **options):
    per_seed = [mean + 0.004 * (seed - (seeds - 1) / 2) for seed in range(seeds)]
    interval = (mean - 0.021, mean + 0.024)
    result = Result(task, evaluator, metric, mean, interval, {"test": mean}, per_seed, {}, tuple(notes), **options)
    return Row(encoder, task, evaluator, result, chance=0.1)


def compared(encoder, right, task="coins"):
    """A row whose probe is right on the first of 100 clips."""
    labels = np.arange(100) % 2
    rows = np.arange(100)
    probed = ProbeTask(task, np.zeros((100, 1)), labels, ["a", "b"], [Split("test", rows[:0], rows[:0], rows)])
    truth = np.eye(2)[labels]
    scores = np.where((rows < right)[:, None], truth, 1 - truth)[None]
    result = summarise(probed, "linear", [SplitScores(probed.splits[0], scores)], settings={}, resamples=200)
    return Row(encoder, task, "linear", result, chance=0.5)


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


def drawn(rows, width=200, **options):
    out = io.StringIO()
    print_table(rows, Console(file=out, width=width), **options)
    return out.getvalue()


def test_the_table_reads_as_it_should(rows):
    lines = [line.rstrip() for line in drawn(rows, width=40).splitlines() if line.strip()]
    assert lines[0].split("  ")[0].strip() == "encoder"
    assert "esc10 (linear, accuracy)" in lines[0]
    assert "tags (linear, mAP)" in lines[0]
    body = [" ".join(line.split()) for line in lines[2:]]
    assert lines[0].rstrip().endswith("average (linear)")
    assert body == [
        "run 71.2 ±0.4 (69.1-73.6) 40.5 ±0.4 (38.4-42.9) 55.9",
        "run, untrained 50.0 ±0.4 (47.9-52.4) 30.0 ±0.4 (27.9-32.4) 40.0",
        "log-mel mean+std 60.0 ±0.4 (57.9-62.4)",
        "chance 10.0 10.0",
        "Per cent, mean over 3 probe seeds ± their standard deviation; in brackets the 95 % interval over test clips.",
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
        "| encoder | esc10 (linear, accuracy) | tags (linear, mAP) | average (linear) |",
        "| --- | ---: | ---: | ---: |",
        "| run | 71.2 ±0.4 (69.1-73.6) | 40.5 ±0.4 (38.4-42.9) | 55.9 |",
        "| run, untrained | 50.0 ±0.4 (47.9-52.4) | 30.0 ±0.4 (27.9-32.4) | 40.0 |",
    ]
    assert text.endswith("- esc10: no validation part: 10 % of train held out")
    assert text.count("held out") == 1


def test_markdown_keeps_its_columns_whatever_the_names():
    lines = markdown([row("a|b")]).splitlines()
    assert lines[2].startswith("| a\\|b |")


def test_evaluators_have_columns_of_their_own():
    layout = lay_out([row("run"), row("run", evaluator="knn", mean=0.5)])
    assert layout.columns == ["encoder", "esc10 (linear, accuracy)", "esc10 (knn, accuracy)"]
    assert layout.rows[0] == ["run", "71.2 ±0.4 (69.1-73.6)", "50.0 ±0.4 (47.9-52.4)"]
    assert layout.rows[-1] == ["chance", "10.0", "10.0"]


def test_one_seed_is_one_seed():
    layout = lay_out([row("run", seeds=1)])
    assert "mean over 1 probe seed;" in layout.notes[0]
    assert layout.rows[0][1] == "71.2 (69.1-73.6)"


def test_what_is_no_share_of_one_is_printed_as_it_is_and_said():
    far = row("run", "far", 2.345, metric="d-prime", percent=False)
    wrong = row("run", "fakes", 0.123, metric="EER", higher=False)
    layout = lay_out([row("run"), row("run", "tags", metric="mAP"), far, wrong])
    assert layout.rows[0][3:5] == ["2.35 ±0.00 (2.32-2.37)", "12.3 ±0.4 (10.2-14.7)"]
    assert layout.rows[0][5] == "71.2"  # the average of the other two
    told = " ".join(layout.notes)
    assert "Not in per cent: d-prime." in told
    assert "Less is better: EER." in told
    assert "Not in the average of linear: fakes, far." in told


def test_a_result_without_interval_or_chance_has_none():
    plain = row("run", metric="effective rank", percent=False, mean=12.0)
    plain = replace(plain, result=replace(plain.result, interval=(float("nan"),) * 2), chance=float("nan"))
    layout = lay_out([plain])
    assert layout.rows == [["run", "12.00 ±0.00"], ["chance", ""]]


def test_differences_to_a_baseline_are_marked_where_they_are_not_chance():
    rows = [compared("good", 90), compared("same", 62), compared("base", 60)]
    rows += [compared("good", 90, "dice"), compared("same", 60, "dice"), compared("base", 60, "dice")]
    layout = lay_out_differences(rows, "base")
    assert layout.columns == ["minus base", "coins (linear, accuracy)", "dice (linear, accuracy)", "average (linear)"]
    good, same = layout.rows
    assert good[0] == "good"
    assert re.fullmatch(r"\+30\.0 \(\+2\d\.\d to \+3\d\.\d\) \*", good[1])
    assert re.fullmatch(r"\+30\.0 \(.*\) \*", good[3])
    assert re.fullmatch(r"\+2\.0 \(\+0\.0 to \+\d\.\d\)", same[1])
    assert same[2] == "+0.0 (+0.0 to +0.0)"
    text = drawn(rows, baseline="base")
    marked = [line for line in text.splitlines() if line.strip().startswith("good")]
    assert len(marked) == 2
    assert marked[0].count("*") == 3
    assert "\\*" in markdown(rows, "base")


def test_results_without_scores_have_no_difference_and_it_is_said():
    layout = lay_out_differences([row("run"), row("base")], "base")
    assert layout.columns == ["minus base"]
    assert "No difference" in layout.notes[1]


def test_csv_is_a_line_each_with_scores_as_they_are():
    lines = list(csv.DictReader(io.StringIO(as_csv([compared("good", 90), compared("base", 60)], "base"))))
    assert [line["encoder"] for line in lines] == ["good", "base"]
    assert float(lines[0]["mean"]) == 0.9
    assert float(lines[0]["difference"]) == pytest.approx(0.3)
    assert lines[0]["significant"] == "True"
    assert lines[1]["difference"] == lines[1]["significant"] == ""
    assert "difference" not in as_csv([compared("good", 90)])


def test_what_rows_cost():
    rows = [
        replace(row("run"), seconds=Seconds(600.0, 2.0, 0.5)),
        replace(row("run", evaluator="knn"), seconds=Seconds(embedding=0.01, probe=0.1, cached=True)),
    ]
    layout = lay_out_seconds(rows)
    assert [line[3:] for line in layout.rows] == [["2.00", "0.50", "300"], ["0.01", "0.10", "kept"]]
    assert "x real time" in drawn(rows, timing=True)


def test_further_figures_have_tables_of_their_own(capsys):
    def result(mean, **table):
        return Result("words", "layers", "accuracy", mean, (0.1, 0.9), {}, [mean], table=table)

    rows = [
        Row("a", "words", "layers", result(0.5, **{"layer 1": 0.25, "d-prime": 2.5})),
        Row("b", "words", "layers", result(0.75, **{"layer 1": 0.5, "layer 2": 0.625})),
        Row("a", "words", "plain", Result("words", "plain", "accuracy", 0.5, (0.1, 0.9), {}, [0.5])),
    ]
    (table,) = lay_out_details(rows)
    assert table.columns == ["words (layers)", "a", "b"]
    assert table.rows == [
        ["accuracy", "0.500", "0.750"],
        ["layer 1", "0.250", "0.500"],
        ["d-prime", "2.500", ""],
        ["layer 2", "", "0.625"],
    ]
    assert "| layer 2 |  | 0.625 |" in markdown(rows, details=True)
    assert "layer 2" not in markdown(rows)
    print_table(rows)
    assert "Further figures of layers: --details." in capsys.readouterr().out
    print_table(rows, details=True)
    drawn = capsys.readouterr().out
    assert "layer 2" in drawn
    assert "--details" not in drawn
    lines = list(csv.DictReader(io.StringIO(as_csv(rows, "a", details=True))))
    found = {(line["encoder"], line["evaluator"], line["metric"]): line["mean"] for line in lines}
    assert found["b", "layers", "layer 2"] == "0.625000"
    assert found["b", "layers", "accuracy"] == "0.750000"
    assert all(None not in line and line["baseline"] in ("a", "") for line in lines)
    assert len(lines) == 3 + 4


def test_further_figures_stand_beside_their_domain():
    one = Result("words", "layers", "accuracy", 0.5, (0.1, 0.9), {}, [0.5], table={"layer 1": 0.25})
    lines = list(csv.DictReader(io.StringIO(as_csv([Row("a", "words", "layers", one, domain="speech")], details=True))))
    assert [(line["domain"], line["evaluator"], line["metric"]) for line in lines] == [
        ("speech", "layers", "accuracy"),
        ("speech", "layers", "layer 1"),
    ]

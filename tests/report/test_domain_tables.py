"""Tables whose tasks have domains: groups of columns, their averages, in every form."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from rich.console import Console

from ssl_wb.evaluation.compare import AVERAGE, average, average_name, averaged, compare
from ssl_wb.evaluation.results import Row
from ssl_wb.plugin.evaluator import ProbeTask, Result, Split, SplitScores
from ssl_wb.report.tables import as_csv, lay_out, lay_out_differences, markdown, print_table
from ssl_wb.scoring.summary import summarise

#: Linear evaluation in Table I of DWM (arXiv 2603.23810), in per cent; the last column is the paper's own average.
DOMAINS = {
    **dict.fromkeys(("ESC-50", "US8K"), "environment"),
    **dict.fromkeys(("SPCV2", "VC1", "VF", "CRM-D"), "speech"),
    **dict.fromkeys(("GTZAN", "NSynth", "Surge"), "music"),
}
TABLE = {
    "MSM-MAE random": (89.2, 87.2, 96.1, 73.4, 97.9, 71.3, 80.3, 74.6, 43.2, 79.2),
    "MSM-MAE DWM": (89.9, 87.4, 95.9, 72.5, 97.8, 70.9, 81.8, 75.5, 43.3, 79.5),
    "M2D random": (91.3, 87.6, 96.0, 73.4, 98.3, 73.0, 84.1, 75.7, 42.1, 80.2),
}


def row(encoder, task, mean, domain=None, evaluator="linear", role="encoder", **options):
    result = Result(task, evaluator, "accuracy", mean, (mean - 0.02, mean + 0.02), {"test": mean}, [mean], **options)
    return Row(encoder, task, evaluator, result, role, 0.1, domain=domain)


@pytest.fixture
def published():
    shuffled = [*DOMAINS][::-1]  # the order on the command line is not that of the table
    means = {name: dict(zip(DOMAINS, line, strict=False)) for name, line in TABLE.items()}
    return [row(name, task, means[name][task] / 100, DOMAINS[task]) for name in TABLE for task in shuffled]


def judged(encoder, task, right, domain=None):
    """A row whose probe is right on the first of 100 clips."""
    labels, rows = np.arange(100) % 2, np.arange(100)
    split = Split("test", rows[:0], rows[:0], rows)
    probed = ProbeTask(task, np.zeros((100, 1), np.float32), labels, ["a", "b"], [split])
    truth = np.eye(2)[labels]
    scores = SplitScores(split, np.where((rows < right)[:, None], truth, 1 - truth)[None])
    result = summarise(probed, "linear", [scores], settings={}, resamples=200)
    return Row(encoder, task, "linear", result, chance=0.5, domain=domain)


def test_the_papers_table_comes_out_in_its_layout_with_its_averages(published):
    layout = lay_out(published)
    groups = [group for group in layout.group_headings() if group]
    assert groups == ["environment", "speech", "music"]
    assert layout.groups == ["", *["environment"] * 3, *["speech"] * 5, *["music"] * 4, ""]
    assert [name.split(" ")[0] for name in layout.columns] == [
        *("encoder", "US8K", "ESC-50", "average", "CRM-D", "VF", "VC1", "SPCV2", "average"),
        *("Surge", "NSynth", "GTZAN", "average", "average"),
    ]
    for line in layout.rows[:-1]:
        values = TABLE[line[0]]
        # Every task counts the same, as in the paper, whose averages are of numbers before rounding: each may be 0.05
        # off, and so may the average. An average of domains would be 0.4 or more away.
        assert float(line[-1]) == pytest.approx(values[-1], abs=0.101)
        for column, of in ((3, values[:2]), (8, values[2:6]), (12, values[6:9])):
            assert float(line[column]) == pytest.approx(np.mean(of), abs=0.051)
    assert all(len(line) == len(layout.columns) == len(layout.groups) for line in layout.rows)


def test_without_domains_nothing_is_grouped():
    rows = [row("run", "esc10", 0.7), row("run", "words", 0.5)]
    layout = lay_out(rows)
    assert layout.groups == layout.group_headings() == []
    assert (
        markdown(rows).splitlines()[0]
        == "| encoder | esc10 (linear, accuracy) | words (linear, accuracy) | average (linear) |"
    )
    assert "domain" not in as_csv(rows)
    assert len(as_csv(rows).splitlines()) == 3


def test_one_task_needs_no_average_and_one_average_is_enough():
    rows = [row("run", "a", 0.1, "speech"), row("run", "b", 0.3, "speech"), row("run", "c", 0.8, "music")]
    assert [name.split(" ")[0] for name in lay_out(rows).columns] == ["encoder", "a", "b", "average", "c", "average"]
    assert [name.split(" ")[0] for name in lay_out(rows[:2]).columns] == ["encoder", "a", "b", "average"]
    assert lay_out(rows[:2]).groups == ["", "speech", "speech", "speech"]


def test_tasks_without_a_domain_follow_those_with_one():
    rows = [row("run", "mine", 0.2), row("run", "words", 0.4, "speech"), row("run", "dogs", 0.9, "environment")]
    layout = lay_out(rows)
    assert [name.split(" ")[0] for name in layout.columns] == ["encoder", "dogs", "words", "mine", "average"]
    assert layout.group_headings() == ["", "environment", "speech", "", ""]
    assert layout.rows[0][-1] == "50.0"


def test_evaluators_and_what_cannot_be_averaged_keep_apart():
    rows = [
        row("run", task, mean, "speech", kind) for task, mean in (("a", 0.1), ("b", 0.3)) for kind in ("linear", "knn")
    ]
    rows.append(row("run", "pitch", 3.0, "speech", percent=False))
    assert lay_out(rows).columns[-2:] == ["average (linear)", "average (knn)"]
    assert lay_out(rows).rows[0][-2:] == ["20.0", "20.0"]
    assert averaged(rows, "linear", "speech") == ["a", "b"]
    assert np.isnan(average(rows, "run", "linear", "music"))


def test_differences_have_a_domains_average():
    tasks = (("a", "speech"), ("b", "speech"), ("c", "music"))
    rows = [judged("base", task, 50, domain) for task, domain in tasks]
    rows += [judged("good", task, 50 + gain, domain) for (task, domain), gain in zip(tasks, (20, 10, 30), strict=True)]
    found = compare(rows, "base")
    assert found["good", average_name("speech"), "linear"].mean == pytest.approx(0.15)
    assert found["good", AVERAGE, "linear"].mean == pytest.approx(0.2)
    speech, parts = found["good", average_name("speech"), "linear"], [found["good", task, "linear"] for task in "ab"]
    width = speech.interval[1] - speech.interval[0]
    assert 0 < width < np.mean([part.interval[1] - part.interval[0] for part in parts])  # of independent tasks
    layout = lay_out_differences(rows, "base")
    assert layout.groups == ["", "speech", "speech", "speech", "music", ""]
    assert [cell.split(" ")[0] for cell in layout.rows[0]] == ["good", "+20.0", "+10.0", "+15.0", "+30.0", "+20.0"]
    assert layout.rows[0][3].endswith("*")
    assert lay_out(rows, found).rows[1][3] == "65.0 *"


def test_markdown_has_domains_above_and_tasks_below_them(published):
    lines = markdown(published).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines[:4]]
    assert lines[0].startswith("|  | environment |  |  | speech |")
    assert set(lines[1]) <= set("|-: ")
    assert cells[2][:2] == ["**encoder**", "**US8K (linear, accuracy)**"]
    assert lines[3].startswith("| MSM-MAE random | 87.2 ")
    assert len({line.count("|") for line in lines[:7]}) == 1


def test_the_drawn_table_has_the_domain_above_its_first_task(published):
    out = io.StringIO()
    print_table(published, Console(file=out, width=60))
    lines = [line for line in out.getvalue().splitlines() if line.strip()]
    assert lines[0].split() == ["environment", "speech", "music"]
    assert lines[1].split()[:2] == ["encoder", "US8K"]
    # Right-aligned as their columns are: the domain ends where its first task does.
    assert lines[0].index("environment") + len("environment") == lines[1].index("US8K (linear, accuracy)") + 23


def test_csv_has_a_column_of_domains_and_lines_of_averages():
    tasks = (("c", None), ("b", "speech"), ("a", "speech"))
    rows = [judged(name, task, right, domain) for name, right in (("good", 90), ("base", 60)) for task, domain in tasks]
    lines = list(csv.DictReader(io.StringIO(as_csv(rows, "base"))))
    assert [(line["encoder"], line["task"], line["domain"]) for line in lines] == [
        (name, *rest)
        for name in ("good", "base")
        for rest in (("b", "speech"), ("a", "speech"), ("average", "speech"), ("c", ""), ("average", ""))
    ]
    assert [*lines[0]][:5] == ["encoder", "role", "task", "domain", "evaluator"]
    for line in lines[:5]:
        assert float(line["mean"]) == pytest.approx(0.9)
        assert float(line["difference"]) == pytest.approx(0.3)
        assert line["significant"] == "True"
    assert lines[2]["metric"] == lines[2]["seeds"] == ""
    assert lines[7]["difference"] == ""


def test_json_carries_the_domain():
    assert row("run", "a", 0.5, "speech").as_json()["domain"] == "speech"
    assert row("run", "a", 0.5).as_json()["domain"] is None

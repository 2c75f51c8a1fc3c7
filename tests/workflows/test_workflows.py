"""``ssl_wb.train`` and ``ssl_wb.evaluate`` do what the commands do."""

from __future__ import annotations

import json

import pytest

import ssl_wb
from ssl_wb.cli.main import run
from ssl_wb.errors import UsageError
from tiny_quickstart import TINY


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs trained by calls in one process."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        ssl_wb.train("quickstart", overrides=[*TINY, f"seed={seed}"], out=folder / str(seed), quiet=True, cpu=True)
        for seed in (1, 2)
    ]


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_training_twice_in_one_process_leaves_the_results_of_both(runs, capsys):
    assert [folder.name for folder in runs] == ["1", "2"]
    for folder in runs:
        names = [row["encoder"] for row in results(folder)]
        assert names == [folder.name, f"{folder.name}, untrained", "log-mel mean+std", "log-mel 8 segments"]
    assert capsys.readouterr().out == ""  # a call prints nothing


def test_the_command_prints_the_table_that_the_call_leaves(runs, tmp_path, capsys):
    words = [word for setting in (*TINY, "seed=1") for word in ("--set", setting)]
    assert run(["train", "quickstart", "--cpu", "--quiet", "--out", str(tmp_path / "1"), *words]) == 0
    said = capsys.readouterr()
    assert "1, untrained" in said.out
    assert f"run folder: {tmp_path / '1'}" in said.err
    assert [row["mean"] for row in results(tmp_path / "1")] == [row["mean"] for row in results(runs[0])]


def test_evaluate_is_the_command(runs, capsys):
    asked = {"evaluators": ["knn"], "seeds": 1, "baseline": str(runs[1]), "untrained": False, "device": "cpu"}
    found = ssl_wb.evaluate(runs, ["synthetic:scenes"], **asked)
    assert capsys.readouterr().out == ""
    assert found.baseline == "2"
    words = ["--task", "synthetic:scenes", "--evaluator", "knn", "--seeds", "1", "--baseline", str(runs[1])]
    assert run(["evaluate", *map(str, runs), *words, "--no-untrained", "--device", "cpu", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    for row, other in zip(found.as_json(), printed, strict=True):
        assert {**row, "seconds": None} == {**other, "seconds": None}
    assert "difference" in printed[0]


def test_evaluate_checks_what_it_is_given_before_any_work(runs):
    with pytest.raises(UsageError, match="no row is named so"):
        ssl_wb.evaluate(runs, ["synthetic:scenes"], baseline="3")
    with pytest.raises(UsageError, match=r"EVALUATOR\.KEY=VALUE"):
        ssl_wb.evaluate(runs, ["synthetic:scenes"], settings=["lr=1"])

"""``ssl-wb evaluate``: what is printed where, and what is said to a mistake."""

from __future__ import annotations

import json

import pytest
from task_fakes import Deaf, Spectrum, labelled, write_manifest

from ssl_wb.cli.main import run as ssl_wb


@pytest.fixture
def manifest(tmp_path):
    return write_manifest(tmp_path / "clips", labelled(60, classes="abc", fold=lambda n: str(n // 3 % 3)))


@pytest.fixture
def no_training(monkeypatch):
    """Encoders that need no run folder."""
    monkeypatch.setattr(
        "ssl_wb.encoder.load.load_encoder",
        lambda run, **options: Deaf() if options.get("untrained") else Spectrum(),
    )


QUICK = ["--set", "linear.epochs=5", "--seeds", "2"]


@pytest.mark.usefixtures("no_training")
def test_the_table_goes_to_stdout(manifest, capsys):
    assert ssl_wb(["evaluate", "runs/x", "--task", str(manifest), *QUICK]) == 0
    out, err = capsys.readouterr()
    names = [line.split("  ")[0].strip() for line in out.splitlines()]
    for name in ("x", "x, untrained", "log-mel mean+std", "log-mel 8 segments", "chance"):
        assert name in names
    assert "10 % of the other folds held out" in out
    assert err == ""


@pytest.mark.usefixtures("no_training")
def test_json_is_all_there_is_on_stdout(manifest, capsys):
    arguments = ["--json", "--no-baselines", "--evaluator", "knn", "--evaluator", "linear"]
    assert ssl_wb(["evaluate", "runs/x", "--task", str(manifest), *arguments, *QUICK]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["encoder"], row["evaluator"]) for row in rows] == [
        (name, kind) for name in ("x", "x, untrained") for kind in ("knn", "linear")
    ]
    assert list(rows[0]["per_fold"]) == ["fold 0", "fold 1", "fold 2"]
    assert rows[1]["settings"]["epochs"] == 5
    assert len(rows[1]["per_seed"]) == 2


@pytest.mark.usefixtures("no_training")
def test_markdown(manifest, capsys):
    arguments = ["--markdown", "--no-untrained", "--no-baselines"]
    assert ssl_wb(["evaluate", "runs/x", "--task", str(manifest), *arguments, *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| encoder | task (linear, accuracy) |"
    assert lines[2].startswith("| x | ")
    assert lines[3].startswith("| chance | ")


def refused(capsys, *arguments):
    code = ssl_wb(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return code, err


def test_every_wrong_setting_is_told_at_once(manifest, capsys):
    wrong = ["--set", "linear.lr=fast", "--set", "linear.epoch=3", "--set", "knn.k=2", "--set", "lr=1"]
    code, err = refused(capsys, "runs/x", "--task", manifest, *wrong)
    assert code == 2
    assert "--set linear.lr=fast: linear.lr: expected a number or a list, found the text 'fast'" in err
    assert "--set linear.epoch=3: linear.epoch: unknown key; did you mean 'epochs'?" in err
    assert "--set knn.k=2: expected EVALUATOR.KEY=VALUE, EVALUATOR one of linear" in err
    assert "--set lr=1: expected EVALUATOR.KEY=VALUE" in err
    assert "hint: `ssl-wb describe evaluator NAME`" in err


def test_an_unknown_evaluator_exits_as_a_plugin_fault(manifest, capsys):
    code, err = refused(capsys, "runs/x", "--task", manifest, "--evaluator", "lineer")
    assert code == 4
    assert "did you mean 'linear'" in err


def test_a_folder_that_is_no_run(manifest, tmp_path, capsys):
    for task in (manifest, "synthetic:scenes"):
        code, err = refused(capsys, tmp_path, "--task", task)
        assert code == 2
        assert f"{tmp_path}: not a run folder" in err


def test_a_manifest_that_is_not_there(tmp_path, capsys):
    code, err = refused(capsys, tmp_path, "--task", tmp_path / "nothing.csv")
    assert code == 2
    assert "nothing.csv: no such folder or file" in err

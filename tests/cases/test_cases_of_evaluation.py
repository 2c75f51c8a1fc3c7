"""Cases of tasks, scores and tables; each test is named after the folder of its case."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest


def results(answer):
    code, out, err = answer
    assert code == 0, err
    return json.loads(out)


def test_all_or_nothing(case, a_run, ssl_wb, monkeypatch):
    folder, task = case("foreign"), case("unicode-forms") / "nfc.csv"
    monkeypatch.syspath_prepend(str(folder))
    code, out, err = ssl_wb(
        "evaluate", a_run, "python:enc_bad:raises", "--task", task, "--no-untrained", "--no-baselines", "--seeds", "1"
    )
    assert code != 0
    assert "run" in out
    assert "is left out" in err


def test_broken_clip(case, evaluate):
    good, broken = case("unicode-forms") / "nfc.csv", case("broken-clip") / "t.csv"
    code, out, err = evaluate("--task", good, "--task", broken)
    assert code != 0
    assert "nfc" in out
    assert "is left out" in err


def test_all_or_nothing_evaluators(case, evaluate):
    code, out, _ = evaluate(
        "--task", case("fold-without-positives") / "multi.csv", "--evaluator", "linear", "--evaluator", "clusters"
    )
    assert code != 0
    assert "mAP" in out


def test_ascii_locale(case, a_run):
    task = case("unicode-forms") / "nfc.csv"
    words = ["evaluate", str(a_run), "--task", str(task), "--no-untrained", "--no-baselines"]
    done = subprocess.run(
        [sys.executable, "-m", "ssl_wb", *words],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "nfc" in done.stdout


def test_class_only_in_test(case, evaluate):
    folder = case("class-only-in-test")
    for name in ("onlytest", "single-folds", "single-nosplit"):
        assert evaluate("--task", folder / f"{name}.csv")[0] == 2
    task = folder / "test-one-class.csv"
    _, out, _ = evaluate("--task", task, "--metric", "test-one-class=macro AUC")
    assert "macro AUC is undefined in every split (test clips there are all of one class)" in " ".join(out.split())


def test_fold_without_positives(case, evaluate):
    (row,) = results(evaluate("--task", case("fold-without-positives") / "multi.csv", "--json"))
    assert row["mean"] is not None
    assert any("fold 2" in note for note in row["notes"])


def test_regression_leave_one_out(case, evaluate):
    _, out, _ = evaluate("--task", case("regression-leave-one-out") / "loo.csv", "--metric", "loo=R2")
    assert "R2 is undefined in every split" in out
    assert "MAE is defined" in out


def test_leak_one_recording(case, evaluate):
    folder = case("leak-one-recording")
    (row,) = results(evaluate("--task", folder / "windows.csv", "--json"))
    assert row["mean"] < 0.9
    code, _, err = evaluate("--task", folder / "windows-folds.csv")
    assert code == 2
    assert "--allow-leaks" in err


def test_map_interval(case, evaluate):
    (row,) = results(evaluate("--task", case("map-interval") / "rare.csv", "--json"))
    assert row["interval"][0] <= row["mean"] <= row["interval"][1]


def test_unicode_forms(case, evaluate):
    folder = case("unicode-forms")
    forms, plain = results(evaluate("--task", folder / "forms.csv", "--task", folder / "nfc.csv", "--json"))
    assert forms["mean"] == plain["mean"]


@pytest.mark.skipif(shutil.which("script") is None, reason="needs script(1), which gives a terminal")
def test_narrow_terminal(case, a_run):
    task = case("unicode-forms") / "nfc.csv"
    words = f"{sys.executable} -m ssl_wb evaluate {a_run} --task {task} --evaluator linear --evaluator knn --seeds 1"
    done = subprocess.run(
        ["script", "-qec", f"stty cols 60; {words}", "/dev/null"],
        env={**os.environ, "COLUMNS": "60"}, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "knn" in done.stdout
    assert "…" not in done.stdout


def test_foreign(case, ssl_wb, monkeypatch):
    task, folder = case("unicode-forms") / "nfc.csv", case("foreign")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    after = ["--task", task, "--no-baselines", "--seeds", "1"]
    code, out, _ = ssl_wb("evaluate", "python:enc_prints:make", *after, "--json")
    assert code == 0
    assert json.loads(out)
    assert "changes" in ssl_wb("evaluate", "python:enc_dropout:make", *after)[2]
    for encoder in ("xares:xares_exit.py", "python:enc_bad:exits"):
        code, _, err = ssl_wb("evaluate", encoder, *after)
        assert code == 2
        assert "error: " in err

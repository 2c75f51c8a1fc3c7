"""``ssl-wb evaluate``: what is printed where, and what is said to a mistake."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ssl_wb.cli.main import run as ssl_wb
from task_fakes import Deaf, Spectrum, labelled, write_manifest


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
    (warning,) = err.splitlines()
    assert warning == (
        "warning: task task: only 60 clips are tested, so scores are uncertain: look at the intervals "
        "(an accuracy near 50 % has 13 points to either side)"
    )


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


@pytest.fixture
def runs(tmp_path):
    return [str(tmp_path / name) for name in ("x", "y")]


@pytest.mark.usefixtures("no_training")
def test_several_runs_and_tasks_compared_with_one_of_them(manifest, tmp_path, runs, capsys):
    other = write_manifest(tmp_path / "more", labelled(60, classes="ab", fold=lambda n: str(n // 3 % 3)))
    other = other.rename(other.with_name("other.csv"))
    arguments = ["--task", str(manifest), "--task", str(other), "--evaluator", "knn", "--no-baselines"]
    assert ssl_wb(["evaluate", *runs, *arguments, "--baseline", runs[1], "--timing"]) == 0
    out = capsys.readouterr().out
    assert "task (knn, accuracy)  other (knn, accuracy)  average (knn)" in " ".join(out.split()).replace(
        ") other", ")  other"
    ).replace(") average", ")  average")
    assert "minus y" in out
    assert "x real time" in out
    names = [line.split("  ")[0].strip() for line in out.splitlines()]
    assert [name for name in names if name.startswith(("x", "y"))].count("x, untrained") == 4  # two tables, two costs


@pytest.mark.usefixtures("no_training")
def test_json_has_the_differences(manifest, runs, capsys):
    arguments = ["--task", str(manifest), "--evaluator", "knn", "--no-baselines", "--json", "--seeds", "1"]
    assert ssl_wb(["evaluate", *runs, *arguments, "--baseline", "x, untrained"]) == 0
    rows = {row["encoder"]: row for row in json.loads(capsys.readouterr().out)}
    assert "difference" not in rows["x, untrained"]
    told = rows["y"]["difference"]
    assert told["baseline"] == "x, untrained"
    assert told["mean"] == pytest.approx(rows["y"]["mean"] - rows["x, untrained"]["mean"])
    assert told["significant"] is True
    assert rows["y"]["std"] is None
    assert rows["y"]["seconds"]["cached"] is False


@pytest.mark.usefixtures("no_training")
def test_csv(manifest, runs, capsys):
    arguments = ["--task", str(manifest), "--evaluator", "knn", "--no-baselines", "--no-untrained", "--csv"]
    assert ssl_wb(["evaluate", *runs, *arguments, "--baseline", "x"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("encoder,role,task,evaluator,metric,mean,std,low,high,chance,seeds,baseline,difference")
    assert [line.split(",")[0] for line in lines[1:]] == ["x", "y"]


@pytest.mark.usefixtures("no_training")
def test_another_metric_is_reported_where_asked_for(manifest, capsys):
    arguments = ["--markdown", "--no-untrained", "--no-baselines", "--metric", "task=macro f1", *QUICK]
    assert ssl_wb(["evaluate", "runs/x", "--task", str(manifest), *arguments]) == 0
    assert capsys.readouterr().out.startswith("| encoder | task (linear, macro F1) |")


def test_a_baseline_that_will_be_no_row_is_refused_at_once(manifest, capsys):
    code, err = refused(capsys, "runs/x", "--task", manifest, "--baseline", "log-mel mean")
    assert code == 2
    assert "--baseline log-mel mean: no row is named so; did you mean 'log-mel mean+std'" in err
    code, err = refused(capsys, "runs/x", "--task", manifest, "--no-untrained", "--baseline", "x, untrained")
    assert code == 2


def test_a_metric_of_no_task_or_for_other_labels_is_refused(manifest, capsys):
    code, err = refused(capsys, "runs/x", "--task", manifest, "--metric", "taks=EER")
    assert code == 2
    assert "--metric taks=EER: expected TASK=METRIC; did you mean 'task'" in err
    code, err = refused(capsys, "runs/x", "--task", manifest, "--metric", "task=mAP")
    assert code == 2
    assert "metric 'mAP' is not for labels of one class per clip" in err


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


THEIRS = """
import torch

class Spectrum(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 4
    timestamp_embedding_size = 4

def load_model(path=""):
    return Spectrum()

def get_scene_embeddings(audio, model):
    power = torch.fft.rfft(audio, n=16000).abs().square()
    return torch.stack([power[:, 150 * 2**k : 300 * 2**k + 150].mean(1) for k in range(4)], dim=1).log1p()

def get_timestamp_embeddings(audio, model):
    frames = audio[:, : audio.shape[1] // 320 * 320].unflatten(1, (-1, 320))
    times = (torch.arange(frames.shape[1]) * 20.0).expand(len(audio), -1)
    return torch.stack([frames.mean(2), frames.std(2), frames.amax(2), frames.amin(2)], dim=2), times
"""


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs.py"
    path.write_text(THEIRS)
    return f"hear:{path}"


@pytest.mark.usefixtures("no_training")
def test_encoders_from_elsewhere_stand_beside_runs(manifest, theirs, capsys):
    arguments = ["--task", str(manifest), "--evaluator", "knn", "--json", "--seeds", "1", "--no-baselines"]
    assert ssl_wb(["evaluate", "runs/x", theirs, *arguments, "--baseline", theirs]) == 0
    rows = json.loads(capsys.readouterr().out)
    # An encoder from elsewhere has no untrained self.
    assert [(row["encoder"], row["role"]) for row in rows] == [
        *(("x", "encoder"), ("x, untrained", "untrained"), (theirs, "encoder")),
    ]
    assert rows[2]["mean"] == rows[0]["mean"] == 1.0
    assert rows[0]["difference"]["baseline"] == theirs
    # Its code may change without anybody's notice.
    assert ssl_wb(["evaluate", theirs, *arguments]) == 0
    assert json.loads(capsys.readouterr().out)[0]["seconds"]["cached"] is False


def test_what_an_encoder_from_elsewhere_cannot_do_is_said(manifest, theirs, capsys, caplog):
    arguments = ["--task", str(manifest), "--evaluator", "knn", "--evaluator", "fine-tune", "--evaluator", "layers"]
    assert ssl_wb(["evaluate", theirs, *arguments, "--no-baselines", "--markdown"]) == 0
    assert "has no row of fine-tune, layers" in caplog.text + capsys.readouterr().err


def test_encoders_that_are_not_there_are_refused_before_any_work(manifest, theirs, capsys):
    for source, message in [
        ("hear:no_such_module", "there is no module 'no_such_module'"),
        ("hera:module", "'hera' is no kind of encoder; did you mean 'hear'"),
        ("python:module", "expected python:MODULE:FUNCTION"),
    ]:
        code, err = refused(capsys, theirs, source, "--task", manifest)
        assert code == 2
        assert message in err
    code, err = refused(capsys, theirs, theirs, "--task", manifest)
    assert code == 2
    assert "an encoder is named twice" in err
    code, err = refused(capsys, theirs, "--task", "synthetic:scenes")
    assert code == 2
    assert "the scenes are those of a run, and none is given" in err


def test_embed_takes_them_too(manifest, theirs, tmp_path, capsys):
    out = tmp_path / "out.npz"
    assert ssl_wb(["embed", theirs, str(manifest), "--out", str(out), "--level", "frames"]) == 0
    with np.load(out) as archive:
        assert archive["embedding"].shape[1] == 4
        assert archive["time"][1] == pytest.approx(0.02)
    assert ssl_wb(["embed", theirs, str(manifest), "--out", str(tmp_path / "two.npz")]) == 0
    with np.load(tmp_path / "two.npz") as archive:
        assert archive["embedding"].shape == (60, 4)
        assert (archive["time"] == 0).all()
    capsys.readouterr()
    assert ssl_wb(["embed", theirs, str(manifest), "--out", str(tmp_path / "three.npz"), "--uncertainty"]) == 2
    assert "--uncertainty asks a run's objectives" in capsys.readouterr().err


@pytest.mark.usefixtures("no_training")
def test_a_domain_given_to_a_task_groups_its_column(manifest, capsys):
    arguments = ["--task", str(manifest), "--evaluator", "knn", "--no-baselines", "--no-untrained"]
    assert ssl_wb(["evaluate", "runs/x", *arguments, "--domain", "task=speech", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "|  | speech |"
    assert lines[2] == "| **encoder** | **task (knn, accuracy)** |"
    assert ssl_wb(["evaluate", "runs/x", *arguments, "--domain", "task=speech", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["domain"] == "speech"
    code, err = refused(capsys, "runs/x", "--task", manifest, "--domain", "tusk=speech")
    assert code == 2
    assert "--domain tusk=speech: expected TASK=DOMAIN; did you mean 'task'" in err

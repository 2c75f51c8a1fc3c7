"""One command for a job that may be started again: it begins the run or goes on with it, and stops in time."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
import torch

from ssl_wb.errors import InterruptedRunError, RunFolderError, UsageError
from ssl_wb.runs import lock as lock_module
from ssl_wb.runs.checkpoint import load_weights
from ssl_wb.runs.folder import RunFolder
from ssl_wb.runs.lock import RunLock
from ssl_wb.training import signals
from ssl_wb.training.signals import StopSignal
from ssl_wb.workflows.pretrain import train

CPU = torch.device("cpu")
SETTINGS = ["train.steps=6", "train.log_every=1", "data.workers=0"]


def losses(run):
    return [(row["step"], row["loss"]) for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())]


@pytest.fixture
def begin(recipe, tmp_path):
    """One command, which is repeated as a requeued job would."""

    def begin(name="run", overrides=SETTINGS, **given):
        return train(recipe, out=tmp_path / name, overrides=overrides, resume="auto", quiet=True, cpu=True, **given)

    return begin


def test_one_command_starts_a_run_stops_in_time_and_goes_on(begin, tmp_path):
    whole = begin("whole")
    with pytest.raises(InterruptedRunError, match="stopped at step 1 of 6 because --max-hours is over") as caught:
        begin(max_hours=1e-9)
    assert caught.value.exit_code == 75
    assert (tmp_path / "run" / "checkpoints" / "last").read_text() == "step-00000001\n"
    run = begin(max_hours=10)
    assert losses(run) == losses(whole)
    weights = [load_weights(one / "checkpoints" / "step-00000006") for one in (whole, run)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    with pytest.raises(UsageError, match=r"--set is not the recipe of the run: train\.steps is 6 in the run and 7 in"):
        begin(overrides=["train.steps=7", *SETTINGS[1:]])
    with pytest.raises(UsageError, match=r"--set does not fit the recipe of the run: (?s:.)*train\.stepz: unknown key"):
        begin(overrides=["train.stepz=7"])


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(begin, tmp_path, monkeypatch):
    whole = begin("whole", overrides=["train.steps=2", "train.log_every=1"])
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for path in (run / "checkpoints").iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    (run / "data.json").unlink()
    asked = []
    from ssl_wb.workflows import pretrain

    preflight = pretrain.preflight
    monkeypatch.setattr(pretrain, "preflight", lambda loaded, resume: (asked.append(resume), preflight(loaded))[1])
    assert losses(begin(overrides=["train.steps=2"])) == losses(whole)
    assert asked == [False]  # the weights that [init] names are read
    assert (run / "data.json").read_text() == (whole / "data.json").read_text()


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), float("inf")])
def test_hours_that_are_no_time_are_refused(begin, tmp_path, hours):
    with pytest.raises(UsageError, match="--max-hours"):
        begin(max_hours=hours)
    assert not (tmp_path / "run").exists()


def test_to_go_on_and_to_throw_away_are_not_asked_for_together(begin):
    with pytest.raises(UsageError, match="--auto-resume keeps the run and --overwrite throws it away"):
        begin(overwrite=True)


# ------------------------------------------------------------------------------------ what a kill leaves behind


def test_a_folder_of_a_start_that_was_killed_is_taken_and_one_of_the_user_is_not(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)
    for path in (folder.recipe, folder.environment, tmp_path / "run" / ".recipe.toml.0a1b.part"):
        path.write_text("x")
        folder.check(resume=False, overwrite=False)
    (folder.path / "run.lock.0a1b2c3d").write_text("")  # a look at the file system's clock
    folder.check(resume=False, overwrite=False)
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty"):
        folder.check(resume=False, overwrite=False)
    (folder.path / "notes.txt").unlink()
    folder.checkpoints.rmdir()
    with pytest.raises(RunFolderError, match="not empty"):  # a recipe alone may be the user's
        folder.check(resume=False, overwrite=False)


def test_an_overwrite_that_was_killed_is_done_again_and_only_when_asked(tmp_path):
    folder = RunFolder(tmp_path / "run")
    (folder.checkpoints / "step-00000004").mkdir(parents=True)
    folder.metrics.write_text("")
    with pytest.raises(RunFolderError, match="not empty"):
        folder.check(resume=False, overwrite=False)
    folder.prepare(resume=False, overwrite=True)
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "run.lock"]
    assert not list(folder.checkpoints.iterdir())
    folder.lock.release()
    (folder.path / "notes.txt").write_text("mine")
    folder.metrics.write_text("")
    with pytest.raises(RunFolderError, match="not empty"):
        folder.check(resume=False, overwrite=True)


def test_the_lock_of_a_lost_host_is_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"host": "elsewhere", "process": 1, "started": 0.0, "token": "x"}))
    monkeypatch.setattr(lock_module, "BEAT", 0.15)
    monkeypatch.setattr(lock_module, "SILENCE", 1.0)
    RunLock(path).wait()  # silent until it counts as gone
    RunLock(path).check()
    os.utime(path)
    ages = iter([0.1, 0.2, 0.0])
    monkeypatch.setattr(lock_module, "_age", lambda _: next(ages, 0.0))
    RunLock(path).wait()  # a heartbeat: it is alive, and is refused as ever
    with pytest.raises(RunFolderError, match="elsewhere"):
        RunLock(path).check()


# ----------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_is_noted_and_only_a_second_ctrl_c_ends_at_once(name):
    stop = StopSignal(CPU, 1)
    before = signal.getsignal(getattr(signal, name))
    with stop.caught():
        assert not stop.wanted
        os.kill(os.getpid(), getattr(signal, name))
        assert stop.asked() == (True, False)
        os.kill(os.getpid(), signal.SIGTERM)  # `timeout` sends it twice
        os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.number == getattr(signal, name)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(getattr(signal, name)) is before


def test_one_ctrl_c_that_comes_from_terminal_and_launcher_counts_once(monkeypatch):
    clock = iter([10.0, 10.1, 12.0])
    monkeypatch.setattr(signals.time, "monotonic", lambda: next(clock))
    stop = StopSignal(CPU, 2)
    with stop.caught():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

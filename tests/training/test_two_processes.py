"""Two gloo processes compute the step of one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(recipe, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    settings = ["--set", "train.log_every=1", "--cpu"]
    one = [sys.executable, "-m", "ssl_wb", "train", str(recipe), *settings, "--out", str(tmp_path / "one")]
    two = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "ssl_wb", "train", str(recipe), *settings, "--out", str(tmp_path / "two"),
    ]  # fmt: skip
    for command in (one, two):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    rows = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    for single, double in zip(*rows, strict=True):
        assert double["loss"] == pytest.approx(single["loss"], abs=1e-5)


def _children(process: int) -> list[int]:
    """Return the data workers of a process."""
    return [child.pid for child in psutil.Process(process).children()]


@pytest.mark.slow
def test_two_processes_go_on_after_a_worker_died_hold_the_lock_and_stop_with_a_checkpoint(recipe, tmp_path):
    folder, environment = tmp_path / "run", {**os.environ, "OMP_NUM_THREADS": "1"}
    train = ["-m", "ssl_wb", "train", str(recipe), "--cpu", "--out", str(folder)]
    settings = ["train.steps=100000", "train.log_every=5", "train.checkpoint_every=100000", "data.workers=1"]
    command = [
        *(sys.executable, *train, "--processes", "2"),
        *(word for setting in settings for word in ("--set", setting)),
    ]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as running:
        try:
            _wait_for_lines(folder / "metrics.jsonl", 3)
            ranks = sorted(
                one.pid for one in psutil.Process(running.pid).children(recursive=True) if len(one.children()) == 1
            )
            assert len(ranks) == 2
            second = subprocess.run(
                [sys.executable, *train, "--resume"], env=environment, capture_output=True, text=True, check=False
            )
            assert second.returncode == 2
            assert "a run is being written here by process" in second.stderr
            for rank in ranks:
                (worker,) = _children(rank)
                os.kill(worker, signal.SIGKILL)
            before = len((folder / "metrics.jsonl").read_text().splitlines())
            _wait_for_lines(folder / "metrics.jsonl", before + 3)
            running.send_signal(signal.SIGTERM)
            _, err = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 75, err
    assert err.count("was ended by SIGKILL") == 2
    assert not (folder / "run.lock").exists()
    rows = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows == sorted(set(rows))
    assert (folder / "checkpoints" / "last").is_file()


def _wait_for_lines(path: Path, count: int) -> None:
    until = time.monotonic() + 120
    while not path.is_file() or len(path.read_text().splitlines()) < count:
        assert time.monotonic() < until, f"{path} has no {count} lines"
        time.sleep(0.2)

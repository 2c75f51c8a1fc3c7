"""Two gloo processes compute the step of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys

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

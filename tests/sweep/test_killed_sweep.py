"""Twelve runs in processes of their own, killed three times: all complete in the end, none trained twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time

import psutil
import pytest
from sweep_texts import TINY, write


def kill_all(process):
    """Kill a process and everything that it started."""
    try:
        everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in everyone:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


@pytest.mark.torture
@pytest.mark.timeout(3000)
def test_twelve_runs_killed_three_times(tmp_path):
    text = TINY.replace("seeds = [0, 1]", "seeds = [0, 1, 2, 3, 4, 5]")
    file, folder = write(tmp_path, text), tmp_path / "out"
    command = [sys.executable, "-m", "ssl_wb", "sweep", str(file), "--out", str(folder), "--cpu"]
    chance = random.Random(0)
    complete: dict[str, float] = {}  # when the last checkpoint of a complete run was written
    for kill in range(4):
        with (tmp_path / f"{kill}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            if kill == 3:
                assert process.wait(timeout=2400) == 0, (tmp_path / "3.log").read_text()
                break
            before = len(list(folder.glob("*/metrics.jsonl")))
            while process.poll() is None and len(list(folder.glob("*/metrics.jsonl"))) < before + 3:
                time.sleep(0.05)
            time.sleep(chance.uniform(0.0, 1.0))
            assert process.poll() is None, "the sweep ended before it was killed"
            kill_all(process)
        for pointer in folder.glob("*/checkpoints/last"):
            if pointer.read_text().strip() == "step-00000006":
                complete.setdefault(pointer.parents[1].name, pointer.stat().st_mtime)
    values = json.loads((folder / "results.json").read_text())
    assert [one["state"] for one in values["runs"].values()] == ["complete"] * 12
    assert len(complete) >= 3
    for name, when in complete.items():
        assert (folder / name / "checkpoints" / "last").stat().st_mtime == when, f"{name} was trained again"
    for name in values["runs"]:
        lines = (folder / name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6], name

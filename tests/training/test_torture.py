"""Runs that are killed again and again end with the numbers of one that never was.

The short form kills a forked run at file operations: at start-up, while a checkpoint is written and renamed, while
lines of metrics are appended, around the probes. The full form (``pytest -m torture``, about ten minutes;
SSL_WB_TORTURE is the seconds of each part) kills more of these, the real command at random moments, and one of two
processes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from safetensors.torch import load_file

from ssl_wb.runs.checksums import find_damage
from ssl_wb.workflows.pretrain import train

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tests fork")

#: Seconds of each part of the full form.
SECONDS = float(os.environ.get("SSL_WB_TORTURE", "180"))
#: Figures that depend on the clock and not on the run.
TIMING = {"clips_per_second", "data_wait_share", "seconds"}
SETTINGS = ["train.steps=6", "train.log_every=1", "train.checkpoint_every=2"]
PROBE = """
[[evaluate]]
name = "knn"
task = "{task}"
every = 3
"""
#: Of the short form: numbers of the operations at which a run is killed before it has a checkpoint, and after.
EARLY, LATER = (16, 30), (60, 45, 75)
#: Operations on files that the system tells of (`sys.addaudithook`).
OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.listdir", "os.scandir"}


@pytest.fixture
def probed(recipe, tmp_path) -> Path:
    """The tiny recipe with a probe on two pitches while it trains."""
    folder, noise = tmp_path / "task", np.random.default_rng(1)
    folder.mkdir()
    lines = ["path,label,split"]
    for number in range(16):
        wave = 0.3 * np.sin(np.arange(6000) * (0.1 + 0.9 * (number % 2))) + 0.1 * noise.standard_normal(6000)
        soundfile.write(folder / f"{number}.wav", wave, 16000)
        lines.append(
            f"{number}.wav,{'low' if number % 2 else 'high'},{('train', 'val', 'test', 'train')[number // 2 % 4]}"
        )
    (folder / "task.csv").write_text("\n".join(lines))
    recipe.write_text(recipe.read_text() + PROBE.format(task=folder / "task.csv"))
    return recipe


def _run(recipe, out, kill_at, pipe, settings):
    """Train in this forked process; end by SIGKILL at the operation on the run's files of that number."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    seen, place = [0], str(out)

    def note(event, arguments):
        if event in OPERATIONS and any(place in str(each) for each in arguments[:2]):
            seen[0] += 1
            if seen[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)
    train(recipe, out=out, overrides=settings, resume="auto", quiet=True, cpu=True)
    pipe.send(seen[0])


def attempt(recipe, out, *, kill_at=0, after=None, settings=SETTINGS) -> tuple[int, int]:
    """Train in a forked process and return its exit code and the operations on files that it did."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(recipe, out, kill_at, there, settings))
    process.start()
    process.join(after)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode, here.recv() if here.poll() else 0


def assert_sound(run: Path) -> None:
    """No checkpoint that a name leads to is damaged, whenever the run was killed."""
    for path in run.glob("checkpoints/step-*"):
        assert find_damage(path, content=True) is None
    last = run / "checkpoints" / "last"
    assert not last.exists() or (last.parent / last.read_text().strip()).is_dir()


def assert_equal(run: Path, whole: Path) -> None:
    """Metrics, results, weights, optimiser and the choice of the best checkpoint are those of another run."""
    for name in ("checkpoints/last", "checkpoints/best"):
        assert (run / name).read_text() == (whole / name).read_text()
    assert rows(run) == rows(whole)
    step = (run / "checkpoints" / "last").read_text().strip()
    for name in ("model.safetensors", "optimizer.safetensors"):
        got, wanted = (load_file(one / "checkpoints" / step / name) for one in (run, whole))
        assert got.keys() == wanted.keys()
        assert all(got[key].equal(wanted[key]) for key in got), name
    states = [json.loads((one / "checkpoints" / step / "state.json").read_text()) for one in (run, whole)]
    assert states[0] == states[1]
    results = [json.loads((one / "results.json").read_text()) for one in (run, whole)]
    assert [row["mean"] for row in results[0]] == [row["mean"] for row in results[1]]
    assert not [*run.glob(".*.part"), *run.glob("checkpoints/.*.part"), *run.glob("run.lock*")]


def rows(run: Path) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMING} for row in found]


def test_a_run_that_is_killed_at_its_file_operations_ends_as_one_that_is_not(probed, tmp_path):
    # In this process, so that the forked ones need not import everything again.
    train(probed, out=tmp_path / "whole", overrides=SETTINGS, quiet=True, cpu=True)
    kills = 0
    # Early ones first, or the start-up of a run that has a checkpoint already would be killed only.
    for place in (*EARLY, *LATER, 0):
        code, _ = attempt(probed, tmp_path / "run", kill_at=place)
        kills += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL)
        assert_sound(tmp_path / "run")
    assert kills >= 4
    assert_equal(tmp_path / "run", tmp_path / "whole")


# ------------------------------------------------------------------------------------------------- full form


@pytest.mark.torture
@pytest.mark.timeout(0)
def test_hundreds_of_kills_in_forked_runs(probed, tmp_path, record_property):
    began = time.monotonic()
    code, operations = attempt(probed, tmp_path / "whole")
    duration = time.monotonic() - began
    kills, runs, draw = 0, 0, random.Random(1)
    while time.monotonic() - began < SECONDS:
        run = tmp_path / f"run-{runs}"
        code = -1
        for _ in range(20):  # then it may end
            at = draw.choice((0, draw.randrange(1, 40), draw.randrange(1, operations)))
            code, _ = attempt(probed, run, kill_at=at, after=None if at else draw.uniform(0.1, duration))
            kills += code == -signal.SIGKILL
            assert code in (0, -signal.SIGKILL)
            assert_sound(run)
            if code == 0:
                break
        if code:
            assert attempt(probed, run)[0] == 0
        assert_equal(run, tmp_path / "whole")
        runs += 1
    print(f"forked runs: {kills} kills, {runs} runs ended, {time.monotonic() - began:.0f} s")


def command(recipe, out, *words, settings):
    chosen = [word for one in settings for word in ("--set", one)]
    whole = [sys.executable, "-m", "ssl_wb", "train", str(recipe), "--cpu", "--auto-resume", "--out", str(out), *words]
    return subprocess.Popen(
        [*whole, *chosen],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def ended(process) -> str:
    """Wait for a command and for whatever holds its stderr: data workers that stay would let this wait."""
    return process.communicate(timeout=150)[1]


@pytest.mark.torture
@pytest.mark.timeout(0)
def test_the_command_is_killed_at_random_moments(probed, tmp_path):
    settings = [
        "train.steps=40",
        "train.log_every=1",
        "train.checkpoint_every=5",
        "data.workers=1",
        "train.batch_size=16",
    ]
    began = time.monotonic()
    whole = command(probed, tmp_path / "whole", settings=settings)
    assert "error" not in ended(whole)
    duration, began = time.monotonic() - began, time.monotonic()
    kills, runs, draw = 0, 0, random.Random(2)
    while runs == 0 or kills < 3 or (kills < 20 and time.monotonic() - began < SECONDS):
        run = tmp_path / f"run-{runs}"
        process = command(probed, run, settings=settings)
        try:
            process.wait(draw.uniform(0.3, 1.1) * duration)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        said = ended(process)
        assert process.returncode in (0, -signal.SIGKILL), said
        if run.exists():
            assert_sound(run)
        if process.returncode == 0:
            assert_equal(run, tmp_path / "whole")
            runs += 1
    print(f"command: {kills} kills, {runs} runs ended, {time.monotonic() - began:.0f} s")


@pytest.mark.torture
@pytest.mark.timeout(0)
def test_one_of_two_processes_is_killed(probed, tmp_path):
    settings = ["train.steps=40", "train.log_every=1", "train.checkpoint_every=5", "data.workers=1"]
    began = time.monotonic()
    whole = command(probed, tmp_path / "whole", "--processes", "2", settings=settings)
    said = ended(whole)
    assert whole.returncode == 0, said
    duration, began = time.monotonic() - began, time.monotonic()
    kills, draw, run = 0, random.Random(3), tmp_path / "run"
    while kills < 2 or (kills < 10 and time.monotonic() - began < SECONDS):
        process = command(probed, run, "--processes", "2", settings=settings)
        time.sleep(draw.uniform(0.5, 0.95) * duration)
        ranks = [one for one in psutil.Process(process.pid).children() if "ssl_wb" in " ".join(one.cmdline())]
        if len(ranks) == 2:
            draw.choice(ranks).kill()
            kills += 1
        said = ended(process)
        assert process.returncode in (0, 1, 75), said
        assert "Traceback" not in said
        if run.exists():
            assert_sound(run)
        if process.returncode == 0:
            break
    said = ended(process := command(probed, run, "--processes", "2", settings=settings))
    assert process.returncode == 0, said
    assert_equal(run, tmp_path / "whole")
    print(f"two processes: {kills} kills of one, {time.monotonic() - began:.0f} s")

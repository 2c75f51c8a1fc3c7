"""The folder of inputs that failed once (``SSL_WB_CASES``), and what most of them need: clips and a tiny run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fast_run import TRAIN

from ssl_wb.cli.main import run

CASES = Path(os.environ.get("SSL_WB_CASES", ""))


@pytest.fixture
def case(tmp_path, monkeypatch):
    """Copy the folder of a case into the working directory of the test and return it."""
    if not os.environ.get("SSL_WB_CASES") or not CASES.is_dir():
        pytest.skip("set SSL_WB_CASES to the folder of the cases")
    monkeypatch.chdir(tmp_path)

    def copy(name):
        return Path(shutil.copytree(CASES / name, tmp_path / name))

    return copy


def make_base(folder):
    """Write 24 clips of 2 s."""
    random, time = np.random.default_rng(0), np.arange(32000) / 16000
    folder.mkdir()
    for index in range(24):
        tone = 0.3 * np.sin(2 * np.pi * (200 + 50 * index) * time) * np.exp(-time)
        soundfile.write(folder / f"c{index:02d}.wav", tone + 0.02 * random.standard_normal(32000), 16000)
    return folder


@pytest.fixture
def base(tmp_path):
    """Those clips, below the working directory of the test."""
    return make_base(tmp_path / "base")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Train the tiny run once."""
    place = tmp_path_factory.mktemp("cases")
    settings = ["--set", f"data.train={make_base(place / 'base')}", "--set", "train.checkpoint_every=4"]
    assert run([*TRAIN, *settings, "--out", str(place / "run")]) == 0
    return place / "run"


@pytest.fixture
def a_run(trained, tmp_path):
    """Return a copy of the tiny run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def ssl_wb(capsys):
    """Run a command; return exit code, stdout and stderr."""

    def call(*words):
        capsys.readouterr()
        code = run([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def evaluate(ssl_wb, a_run):
    """Evaluate the tiny run on tasks, without baselines, one seed."""

    def call(*words):
        return ssl_wb("evaluate", a_run, *words, "--no-untrained", "--no-baselines", "--seeds", "1")

    return call

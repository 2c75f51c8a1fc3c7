"""A run folder made by version 0.1 trains on, evaluates and embeds with the numbers that 0.1 had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ssl_wb.encoder.load import load_encoder
from ssl_wb.workflows.pretrain import train

FIXTURES = Path(__file__).parents[1] / "fixtures"
#: Figures that depend on the clock and not on the run.
TIMING = {"clips_per_second", "data_wait_share", "seconds"}


def without_timing(rows):
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows]


def assert_same(got, wanted, where=""):
    """The keys of then, same words and lists; numbers to 1e-5 of each other.

    A rank to 1e-3: the root of a Gram matrix' eigenvalue lifts the rounding of a direction that is hardly there.
    """
    assert type(got) is type(wanted) or isinstance(got, int | float), where
    if isinstance(wanted, dict):
        assert got.keys() >= wanted.keys(), where  # later versions may tell more
        for key, value in wanted.items():
            assert_same(got[key], value, f"{where}.{key}")
    elif isinstance(wanted, list):
        assert len(got) == len(wanted), where
        for number, value in enumerate(wanted):
            assert_same(got[number], value, f"{where}.{number}")
    elif isinstance(wanted, float):
        assert got == pytest.approx(wanted, rel=1e-3 if where.endswith("rank") else 1e-5, abs=1e-7), where
    else:
        assert got == wanted, where


@pytest.fixture(scope="module")
def expected():
    return json.loads((FIXTURES / "run-0.1-expected.json").read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run, which 0.1 left at step 8 of 12, trained to its end by this version."""
    folder = tmp_path_factory.mktemp("old") / "run-0.1"
    shutil.copytree(FIXTURES / "run-0.1", folder)
    before = torch.get_num_threads()
    torch.set_num_threads(2)  # as the run began; sums in another order round differently
    try:
        return train("unused.toml", out=folder, resume=True, quiet=True, cpu=True)
    finally:
        torch.set_num_threads(before)


def waveforms() -> torch.Tensor:
    """A tone and a sweep ``[2, S]``, as in make_run_0_1.py."""
    time = torch.arange(24000) / 16000
    tone = 0.3 * torch.sin(2 * torch.pi * 440 * time)
    return torch.stack([tone, 0.2 * torch.sin(2 * torch.pi * (200 + 300 * time) * time)])


def test_it_trains_on_with_the_numbers_of_0_1(run, expected):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert_same(without_timing(rows), without_timing(expected["metrics"]))


def test_it_evaluates_with_the_numbers_of_0_1(run, expected):
    assert_same(without_timing(json.loads((run / "results.json").read_text())), without_timing(expected["results"]))


@pytest.mark.parametrize("checkpoint", ["step-00000008", "step-00000012"])
def test_it_embeds_with_the_numbers_of_0_1(run, tmp_path, checkpoint):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / "checkpoints" / "last").write_text(checkpoint + "\n")
    encoder, wave = load_encoder(folder), waveforms()
    with np.load(FIXTURES / "run-0.1-expected.npz") as wanted:
        for name, got in (
            ("clip", encoder.embed_clip(wave)),
            ("frames", encoder.embed_frames(wave, torch.tensor([24000, 9000]))),
            ("layers", encoder.layers(wave)),
        ):
            assert_close(got, torch.from_numpy(wanted[f"{checkpoint}.{name}"]), rtol=1e-5, atol=1e-6)

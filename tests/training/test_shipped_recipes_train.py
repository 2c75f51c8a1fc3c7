"""Every small recipe trains on real clips: the loss falls and nothing warns; two processes compute the step of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_wb.recipe.files import bundled_recipes
from ssl_wb.workflows.pretrain import train

pytestmark = [pytest.mark.slow, pytest.mark.real_audio]

SMALL = sorted(name for name in bundled_recipes() if "-small" in name)


def data_for(name: str, audio: Path) -> str:
    """Return the manifest a recipe trains on here: one with labels where captions are made of them."""
    return str(audio / ("esc10.csv" if "clap" in name else "pretrain.csv"))


def rows(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_there_are_small_recipes_of_every_system():
    systems = {"audiomosaic", "eat", "m2d", "m2d-clap", "matpac-plus-plus", "msm-mae"}
    maskers, masked_systems = ("ibm", "dwm", "sgim"), ("m2d", "m2d-clap", "msm-mae")
    masked = {f"{system}-small-{masker}" for system in masked_systems for masker in maskers}
    assert set(SMALL) == {f"{system}-small" for system in systems} | masked


@pytest.mark.parametrize("name", SMALL)
def test_fifty_steps_on_real_clips(name, real_audio, tmp_path):
    batch_size = 32 if "audiomosaic" in name else 8  # a contrast needs somebody to contrast with
    settings = [
        "train.steps=50",
        "train.log_every=1",
        "train.warmup=0.2",
        "data.workers=0",
        "train.checkpoint_every=1.0",
    ]
    settings.append(f"train.batch_size={batch_size}")
    run = train(
        name,
        out=tmp_path / "run",
        quiet=True,
        cpu=True,
        overrides=[f"data.train={data_for(name, real_audio)}", *settings],
    )
    logged = rows(run)
    losses = [row["loss"] for row in logged]
    assert sum(losses[-10:]) < 0.98 * sum(losses[:10])
    assert [row["health"]["warnings"] for row in logged if row["health"]["warnings"]] == []


@pytest.mark.parametrize("name", ["audiomosaic-small", "matpac-plus-plus-small"])
def test_two_processes_give_the_loss_of_one_on_the_same_global_batch(name, real_audio, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    settings = [f"data.train={data_for(name, real_audio)}", "train.steps=3", "train.batch_size=16", "train.log_every=1"]
    # AdamW's first steps have the size of the learning rate however small a gradient is, its rounding included: a low
    # rate keeps that out of what is compared.
    settings += ["train.precision=fp32", "data.workers=0", "optimizer.lr=1e-5", "train.checkpoint_every=1.0"]
    arguments = ["-m", "ssl_wb", "train", name, "--cpu", *(word for each in settings for word in ("--set", each))]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    logged = []
    for label, words in {"one": arguments, "two": [*launcher, *arguments]}.items():
        command = [sys.executable, *words, "--out", str(tmp_path / label)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        logged.append(rows(tmp_path / label))
    for one, two in zip(*logged, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-4)

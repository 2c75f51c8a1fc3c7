"""What is left to be found before training: as many clips at a time as fit into memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator, DistributedType
from hypothesis import given
from hypothesis import strategies as st

from ssl_wb.errors import RecipeError, UsageError
from ssl_wb.pretext.plan import make_plan
from ssl_wb.recipe.load import load_recipe
from ssl_wb.train import fitting
from ssl_wb.train.fitting import TAKEN, dividing, find_passes, largest_that_fits
from ssl_wb.train.memory import PeakMemory, free_bytes
from ssl_wb.train.rehearsal import rehearse
from ssl_wb.train.run import train
from ssl_wb.train.run_folder import RunFolder

STEPS = ["train.steps=4", "train.log_every=1"]


def room_for(monkeypatch, path, settings, clips):
    """Let there be room for so many clips at a time, by the plan, and half a clip; a small step takes what it says."""
    plan = make_plan(load_recipe(path, settings))
    judged = load_recipe(path, settings).recipe.train.batch_size if "train.micro_batch='auto'" in settings else None
    one, two = (plan.memory_bytes(number, half=False, judged=judged) for number in (clips, clips + 1))
    monkeypatch.setattr(fitting, "free_bytes", lambda device: (one + two) / 2 / TAKEN)
    monkeypatch.setattr(PeakMemory, "read", lambda self: 0)


def numbers(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["loss"], row["gradient_norm"]) for row in rows]


@given(st.integers(1, 4096), st.integers(0, 5000))
def test_the_largest_divisor_that_fits_is_found_by_few_questions(clips, room):
    asked = []
    sizes = dividing(clips)
    found = largest_that_fits(sizes, lambda rows: asked.append(rows) or rows <= room)
    assert found == max((rows for rows in sizes if rows <= room), default=None)
    assert len(asked) == len(set(asked)) <= len(sizes).bit_length()
    assert all(clips % rows == 0 for rows in sizes)


@pytest.mark.parametrize(
    ("key", "by_hand"), [("micro_batch", "train.micro_batch=2"), ("accumulate", "train.accumulate=2")]
)
def test_a_run_with_the_number_found_is_the_run_with_the_number_written(recipe, tmp_path, monkeypatch, key, by_hand):
    one = train(recipe, out=tmp_path / "a", quiet=True, cpu=True, overrides=[*STEPS, "train.batch_size=4", by_hand])
    settings = [*STEPS, "train.batch_size=4", f"train.{key}='auto'"]
    room_for(monkeypatch, recipe, settings, 2)
    two = train(recipe, out=tmp_path / "b", quiet=True, cpu=True, overrides=settings)
    assert numbers(two) == numbers(one)
    assert tomllib.loads(RunFolder(two).resolved.read_text())["train"][key] == 2


def test_without_room_for_a_clip_nothing_is_written(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "free_bytes", lambda device: 1000)
    with pytest.raises(UsageError, match="not even 1 clip at a time fits"):
        train(recipe, out=tmp_path / "a", quiet=True, cpu=True, overrides=["train.micro_batch='auto'"])
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(fitting, "free_bytes", lambda device: None)
    with pytest.raises(UsageError, match="does not tell"):
        train(recipe, out=tmp_path / "a", quiet=True, cpu=True, overrides=["train.micro_batch='auto'"])


def test_a_batch_that_fits_whole_goes_in_one_pass(recipe):
    loaded = load_recipe(recipe, ["train.micro_batch='auto'"])
    assert loaded.recipe.train.passes() == 1
    found = find_passes(loaded, Accelerator(cpu=True)).recipe.train
    assert found.micro_batch == found.batch_size
    assert find_passes(load_recipe(recipe), Accelerator(cpu=True)).recipe.train.micro_batch is None


def test_a_step_that_takes_more_than_the_plan_says_leaves_room_for_fewer(recipe, monkeypatch):
    settings = ["train.batch_size=16", "train.accumulate='auto'"]
    room_for(monkeypatch, recipe, settings, 8)
    loaded = load_recipe(recipe, settings)
    assert find_passes(loaded, Accelerator(cpu=True)).recipe.train.accumulate == 2
    small = make_plan(loaded).memory_bytes(fitting.SMALL, half=False)
    monkeypatch.setattr(PeakMemory, "read", lambda self: 1.5 * small)
    assert find_passes(loaded, Accelerator(cpu=True)).recipe.train.accumulate > 2


def test_a_gpu_that_runs_out_of_memory_says_what_fits(recipe, monkeypatch):
    tried = []

    def step(loaded, accelerator, section, processes):
        rows = section.batch_size // processes // section.passes(processes)
        tried.append(rows)
        if rows > 8:
            raise torch.OutOfMemoryError

    monkeypatch.setattr(fitting, "rehearse", step)
    monkeypatch.setattr(fitting, "free_bytes", lambda device: 2**30)
    # What fits without the margin that others may want does not fit: 8 clips take nearly all.
    monkeypatch.setattr(fitting, "PeakMemory", lambda device: SimpleNamespace(read=lambda: 2**30 * tried[-1] // 8))
    monkeypatch.setattr(fitting, "_everywhere", lambda accelerator, here: here)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    gpu = SimpleNamespace(
        device=torch.device("cuda"), num_processes=2, distributed_type=DistributedType.MULTI_GPU, is_main_process=False
    )
    loaded = load_recipe(recipe, ["train.batch_size=64", "train.micro_batch='auto'"])
    assert find_passes(loaded, gpu).recipe.train.micro_batch == 4
    assert sorted(tried) == [4, 8, 16]
    gpu.distributed_type = DistributedType.FSDP
    with pytest.raises(UsageError, match="FSDP shards it"):
        find_passes(loaded, gpu)


@pytest.mark.parametrize("key", ["micro_batch", "accumulate"])
def test_a_rehearsal_leaves_no_trace(recipe, key):
    loaded = load_recipe(recipe, ["train.batch_size=4", f"train.{key}=2"])
    state, accelerator = torch.get_rng_state(), Accelerator(cpu=True)
    rehearse(loaded, accelerator, loaded.recipe.train, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not accelerator._models
    assert not accelerator._optimizers


def test_batch_size_is_not_searched_for(recipe):
    with pytest.raises(RecipeError, match="micro_batch = 'auto'"):
        load_recipe(recipe, ["train.batch_size='auto'"])
    with pytest.raises(RecipeError, match="not both"):
        load_recipe(recipe, ["train.micro_batch='auto'", "train.accumulate='auto'"])
    with pytest.raises(RecipeError, match="micro_batch"):
        load_recipe(recipe, ["train.micro_batch='all'"])


def test_a_container_with_a_limit_has_what_is_left_of_it(tmp_path, monkeypatch):
    from ssl_wb.train import memory

    here = torch.device("cpu")
    free = free_bytes(here)
    monkeypatch.setattr(memory, "_LIMIT", tmp_path / "max")
    monkeypatch.setattr(memory, "_TAKEN", tmp_path / "current")
    (tmp_path / "current").write_text("1000\n")
    (tmp_path / "max").write_text("5000\n")
    assert free_bytes(here) == 4000
    (tmp_path / "max").write_text("max\n")
    if free is None:
        assert free_bytes(here) is None
    else:
        assert free_bytes(here) > 4000


@pytest.mark.slow
def test_two_processes_find_the_same_number(recipe, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ssl_wb", "train",
        str(recipe), "--cpu", "--set", "train.steps=1", "--set", "train.batch_size=8", "--set",
        "train.micro_batch='auto'", "--out", str(tmp_path / "two"),
    ]  # fmt: skip
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "4 clips at a time fit" in done.stderr
    assert tomllib.loads(RunFolder(tmp_path / "two").resolved.read_text())["train"]["micro_batch"] == 4

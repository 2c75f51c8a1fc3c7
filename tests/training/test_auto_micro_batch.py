"""What is left to be found before training: as many clips at a time as fit into memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator, DistributedType
from hypothesis import given
from hypothesis import strategies as st

from ssl_wb.errors import RecipeError, UsageError
from ssl_wb.pretext.plan import Kept, kept_bytes, make_plan
from ssl_wb.recipe.load import load_recipe
from ssl_wb.runs.folder import RunFolder
from ssl_wb.training import auto_micro_batch
from ssl_wb.training.auto_micro_batch import MARGIN, USED, dividing, find_passes
from ssl_wb.training.dry_run import dry_run
from ssl_wb.training.memory import free_bytes
from ssl_wb.workflows.pretrain import train

STEPS = ["train.steps=4", "train.log_every=1"]


def room_for(monkeypatch, path, settings, clips):
    """Let there be room for so many clips at a time, and half a clip, as the plan counts them."""
    loaded = load_recipe(path, settings)
    one, two = (kept_bytes(loaded, number) for number in (clips, clips + 1))
    if loaded.recipe.train.searched == "micro_batch":
        whole = kept_bytes(loaded, loaded.recipe.train.batch_size)
        one, two = (Kept(each.encoder, whole.objectives, whole.outputs).cached for each in (one, two))
    else:
        one, two = one.together, two.together
    needed = make_plan(loaded).state_bytes + MARGIN * (one + two) / 2
    monkeypatch.setattr(auto_micro_batch, "free_bytes", lambda device: needed / USED + 9)  # 9: rounding


def passes_of(loaded, accelerator):
    return find_passes(loaded, make_plan(loaded), accelerator)


def numbers(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(row["loss"], row["gradient_norm"]) for row in rows]


@given(st.integers(1, 4096))
def test_passes_are_of_one_size(clips):
    sizes = dividing(clips)
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, clips)
    assert all(clips % rows == 0 for rows in sizes)


@pytest.mark.parametrize("key", ["micro_batch", "accumulate"])
def test_a_run_with_the_number_found_is_the_run_with_the_number_written(recipe, tmp_path, monkeypatch, key):
    settings = [*STEPS, "train.batch_size=16", f"train.{key}='auto'"]
    room_for(monkeypatch, recipe, settings, 4)
    one = train(recipe, out=tmp_path / "a", quiet=True, cpu=True, overrides=settings)
    found = tomllib.loads(RunFolder(one).resolved.read_text())["train"][key]
    assert found in ((4, 8) if key == "micro_batch" else (4,))  # 8 where joining takes more than encoding
    by_hand = [*STEPS, "train.batch_size=16", f"train.{key}={found}"]
    two = train(recipe, out=tmp_path / "b", quiet=True, cpu=True, overrides=by_hand)
    assert numbers(two) == numbers(one)


def test_without_room_for_a_clip_nothing_is_written(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(auto_micro_batch, "free_bytes", lambda device: 1000)
    with pytest.raises(UsageError, match="not even 1 clip at a time fits"):
        train(recipe, out=tmp_path / "a", quiet=True, cpu=True, overrides=["train.micro_batch='auto'"])
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(auto_micro_batch, "free_bytes", lambda device: None)
    with pytest.raises(UsageError, match="does not tell"):
        train(recipe, out=tmp_path / "a", quiet=True, cpu=True, overrides=["train.micro_batch='auto'"])


def test_a_batch_that_fits_whole_goes_in_one_pass(recipe):
    loaded = load_recipe(recipe, ["train.micro_batch='auto'"])
    assert loaded.recipe.train.passes() == 1
    found = passes_of(loaded, Accelerator(cpu=True)).recipe.train
    assert found.micro_batch == found.batch_size
    assert passes_of(load_recipe(recipe), Accelerator(cpu=True)).recipe.train.micro_batch is None


def test_a_gpu_that_runs_out_of_memory_says_what_fits(recipe, monkeypatch):
    tried, limits, most = [], [], 4

    def step(loaded, accelerator, section, processes):
        rows = section.batch_size // processes // section.passes(processes)
        tried.append(rows)
        if rows > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")

    @contextmanager
    def memory_limit(device, usable):
        limits.append(usable)
        yield

    monkeypatch.setattr(auto_micro_batch, "dry_run", step)
    monkeypatch.setattr(auto_micro_batch, "free_bytes", lambda device: 2**30)
    monkeypatch.setattr(auto_micro_batch, "_memory_limit", memory_limit)
    monkeypatch.setattr(auto_micro_batch, "_least", lambda accelerator, rows: rows)
    gpu = SimpleNamespace(
        device=torch.device("cuda"), num_processes=2, distributed_type=DistributedType.MULTI_GPU, is_main_process=False
    )
    loaded = load_recipe(recipe, ["train.batch_size=64", "train.micro_batch='auto'"])
    assert passes_of(loaded, gpu).recipe.train.micro_batch == 4
    assert tried == [32, 16, 8, 4]
    assert limits == [USED * 2**30]  # other programs may need some
    most = 0
    with pytest.raises(UsageError, match="not even 1 clip"):
        passes_of(loaded, gpu)
    gpu.distributed_type = DistributedType.FSDP
    with pytest.raises(UsageError, match="FSDP shards it"):
        passes_of(loaded, gpu)


@pytest.mark.gpu
def test_a_gpu_is_used_up_to_the_limit(recipe):
    device = torch.device("cuda")
    loaded = load_recipe(recipe, ["train.batch_size=4096", "train.micro_batch='auto'"])
    whole = auto_micro_batch._measured(loaded, Accelerator(), 64 * 2**30)
    few = auto_micro_batch._measured(loaded, Accelerator(), 2**28)
    assert 0 < few < whole
    assert torch.cuda.get_per_process_memory_fraction(device) == 1.0


@pytest.mark.parametrize("key", ["micro_batch", "accumulate"])
def test_a_dry_run_leaves_no_trace(recipe, key):
    loaded = load_recipe(recipe, ["train.batch_size=4", f"train.{key}=2"])
    state, accelerator = torch.get_rng_state(), Accelerator(cpu=True)
    dry_run(loaded, accelerator, loaded.recipe.train, 1)
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
    from ssl_wb.training import memory

    here = torch.device("cpu")
    free = free_bytes(here)
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    (tmp_path / "memory.current").write_text("2000\n")
    (tmp_path / "memory.max").write_text("5000\n")
    (tmp_path / "memory.stat").write_text("anon 900\ninactive_file 1000\nactive_file 100\n")
    assert free_bytes(here) == 4000
    (tmp_path / "memory.max").write_text("max\n")
    if free is None:
        assert free_bytes(here) is None
    else:
        assert free_bytes(here) > 4000


CONTRAST = """
[data]
clip_seconds = 0.8
workers = 0
[masker]
name = "random"
ratio = 0.5
views = 2
[backbone]
name = "vit"
dim = 32
depth = 2
heads = 2
[[objective]]
name = "infonce"
hidden = 32
out = 16
[train]
steps = 4
batch_size = 64
precision = "fp32"
"""


def test_what_a_loss_of_many_clips_keeps_grows_with_their_square(tmp_path):
    path = tmp_path / "contrast.toml"
    path.write_text(CONTRAST)
    loaded = load_recipe(path)
    few, many = kept_bytes(loaded, 8), kept_bytes(loaded, 64)
    assert many.encoder == 8 * few.encoder
    assert many.outputs == 8 * few.outputs
    assert many.objectives > 8 * few.objectives
    plan = make_plan(loaded)
    assert plan.output_bytes_per_clip * 8 == few.outputs
    assert plan.memory_bytes(8, half=False) == plan.state_bytes + 8 * plan.activation_bytes_per_clip
    # What was read of the whole batch is there, and for a moment twice.
    assert plan.memory_bytes(1, half=False, loss_clips=64) > plan.state_bytes + 2 * many.outputs


@pytest.mark.parametrize("key", ["micro_batch", "accumulate"])
def test_what_is_kept_is_what_a_step_keeps(tmp_path, key):
    """The plan's bytes against those that torch itself counts during a dry run on real tensors."""
    path = tmp_path / "contrast.toml"
    path.write_text(CONTRAST)
    loaded = load_recipe(path, [f"train.{key}={8 if key == 'micro_batch' else 1}"])
    whole = kept_bytes(loaded, 64)
    planned = Kept(kept_bytes(loaded, 8).encoder, whole.objectives, whole.outputs).cached
    planned = planned if key == "micro_batch" else whole.together
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        dry_run(loaded, Accelerator(cpu=True), loaded.recipe.train, 1)
    sizes = [event.nbytes() for event in _allocations(profiler.profiler.kineto_results.experimental_event_tree())]
    most = max(np.cumsum(sizes))
    state = make_plan(loaded).state_bytes
    assert planned + state <= 1.02 * most
    assert most <= 3.0 * (planned + state)  # with the front end's own, which is large beside so small a model


def _allocations(nodes):
    """Allocations and releases of a profile, in the order of time."""
    found = []
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        waiting += node.children
        if str(node.tag).endswith("Allocation"):
            found.append(node)
    return [_Bytes(node.extra_fields.alloc_size) for node in sorted(found, key=lambda node: node.start_time_ns)]


class _Bytes:
    def __init__(self, size):
        self.size = size

    def nbytes(self):
        return self.size


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

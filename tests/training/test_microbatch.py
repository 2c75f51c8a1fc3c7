"""Gradient caching: micro-batches give the loss and the gradient of the whole batch, and keep less of it."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys

import pytest
import torch
from pretext_fakes import KINDS, KeptBytes, batches, build, captions, engine, gradients, spectrogram
from torch import nn
from torch.testing import assert_close

from ssl_wb.errors import RecipeError, UsageError
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.training.gradient_cache import GradientCache
from ssl_wb.training.step import TrainingStep
from ssl_wb.workflows.pretrain import train

ROWS = 8


class ReadyStep(TrainingStep):
    """A step whose batches hold spectrograms already."""

    def spectrogram(self, batch):
        return batch.waveform


def cached(model, size, measure=False, step=5):
    cache = GradientCache(model, ReadyStep(model, engine(), None, ROWS))
    return cache.backward(batches(model, ROWS, size), step=step, measure=measure)


def whole(model, measure=False, step=5):
    output = model(
        StepInputs(
            spectrogram(model, ROWS), step=step, measure=measure, captions=captions(model, ROWS), global_rows=ROWS
        )
    )
    output.loss.backward()
    return output


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_gradients_figures_and_state_are_those_of_the_whole_batch(kind, size):
    model, parts = build(kind), build(kind)
    expected, got = whole(model, measure=True), cached(parts, size, measure=True)
    assert_close(got.loss, expected.loss, rtol=1e-5, atol=0)
    assert got.metrics.keys() == expected.metrics.keys()
    for name, value in expected.metrics.items():
        # The root of a Gram matrix' eigenvalue lifts the rounding of a direction that is hardly there.
        close = 1e-3 if name.endswith("rank") else 1e-4
        assert float(got.metrics[name]) == pytest.approx(float(value), rel=close, abs=1e-5), name
    gradient, other = gradients(model), gradients(parts)
    assert other.keys() == gradient.keys()
    norm = torch.stack([each.norm() for each in gradient.values()]).norm()
    assert norm > 1e-2
    for name, value in gradient.items():
        # 1e-5 of the parameter's own gradient; those that are 0 but for rounding (a key's bias) are held to the norm.
        assert (other[name] - value).norm() <= 1e-5 * value.norm() + 1e-6 * norm, name
    for (name, buffer), (_, again) in zip(model.named_buffers(), parts.named_buffers(), strict=True):
        assert_close(again, buffer, msg=name)  # running statistics of the projector: one whole batch
    model.after_step(6)
    parts.after_step(6)
    assert_close(parts.state_dict(), model.state_dict(), rtol=1e-5, atol=1e-6)  # centre and averages


def test_losses_of_small_batches_are_something_else():
    """What gradient accumulation does: a clip is told from the clips of its own micro-batch only."""
    model = build("contrast")
    expected = whole(model).loss
    parts = [
        model(StepInputs(batch.waveform, step=5, first_row=batch.first_row, global_rows=ROWS)).loss
        for batch in batches(model, ROWS, 2)
    ]
    assert abs(float((torch.stack(parts).mean() - expected).detach())) > 1e-2


def test_a_layer_that_draws_from_torchs_own_generator_draws_the_same_again():
    model = build("contrast", drop_path=0.0)
    dropout = nn.Dropout(0.5)
    seen = []

    def drop(module, args, output):
        seen.append(dropout(output).detach())
        return dropout(output) * 1.0

    model.backbone.proj.register_forward_hook(lambda module, args, output: drop(module, args, output))
    cached(model, 4)
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert len(first) == 4  # two micro-batches of two views
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(seen[0], seen[2])


def test_weights_that_are_not_trained_stay_without_gradient():
    model = build("contrast")
    model.backbone.requires_grad_(False)
    cached(model, 2)
    assert all(each.grad is None for each in model.backbone.parameters())
    assert gradients(model)


def test_what_is_kept_is_one_micro_batch_or_what_the_objectives_keep():
    """The prediction: the larger of one micro-batch's encoder and the whole batch's objectives."""

    def kept(rows: int, judge: bool) -> int:
        model = build("contrast", depth=6)
        inputs = StepInputs(spectrogram(model, rows), step=5, global_rows=ROWS)
        if judge:
            state = model.encode(inputs)
            for view in state.views:
                view.latents, view.pooled = (each.detach().requires_grad_() for each in (view.latents, view.pooled))
        with KeptBytes().counting(model) as count:
            output = model.compute_losses(state) if judge else model.encode(inputs)
            most = count.most
        del output
        return most

    def peak(run) -> int:
        model = build("contrast", depth=6)
        with KeptBytes().counting(model) as count:
            run(model)
        gc.collect()
        assert count.now == 0
        return count.most

    full, parts = peak(whole), peak(lambda model: cached(model, 2))
    assert full >= kept(ROWS, judge=False)
    predicted = max(kept(2, judge=False), kept(ROWS, judge=True))
    assert parts == pytest.approx(predicted, rel=0.02)
    assert parts < 0.3 * full


def rows_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_in_micro_batches_has_the_numbers_of_one_in_whole_batches(recipe, tmp_path):
    settings = ["train.steps=6", "train.log_every=1", "backbone.drop_path=0.2"]
    one = train(recipe, out=tmp_path / "a", quiet=True, cpu=True, overrides=settings)
    two = train(recipe, out=tmp_path / "b", quiet=True, cpu=True, overrides=[*settings, "train.micro_batch=2"])
    for expected, got in zip(rows_of(one), rows_of(two), strict=True):
        for name in ("loss", "gradient_norm", "student.latent_std", "dino.perplexity"):
            assert got[name] == pytest.approx(expected[name], rel=2e-4), name


def test_micro_batches_of_a_section():
    section = TrainSection(steps=1, batch_size=2048, micro_batch=256)
    assert (section.passes(), section.passes(2), section.passes(16)) == (8, 4, 1)
    assert TrainSection(steps=1, batch_size=8, accumulate=2).passes(4) == 2
    assert TrainSection(steps=1, batch_size=8, micro_batch=100).passes() == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["train.micro_batch=2", "train.accumulate=2"], "not both"),
        (["train.batch_size=7", "train.micro_batch=2"], "7 does not divide into 4 passes"),
        (["train.micro_batch=0"], "micro_batch"),
    ],
)
def test_what_cannot_be_is_a_mistake_of_the_recipe(recipe, tmp_path, settings, said):
    with pytest.raises(RecipeError, match=said):
        train(recipe, out=tmp_path / "run", quiet=True, overrides=settings)
    assert not (tmp_path / "run").exists()


def test_fsdp_is_refused(monkeypatch):
    from types import SimpleNamespace

    from accelerate import DistributedType

    from ssl_wb.training.kernels import check_kernels

    section = TrainSection(steps=1, batch_size=8, micro_batch=2)
    with pytest.raises(UsageError, match=r"micro_batch .* FSDP"):
        check_kernels(
            SimpleNamespace(recipe=SimpleNamespace(train=section)),
            SimpleNamespace(distributed_type=DistributedType.FSDP),
        )


CONTRAST = """
seed = 3
[data]
train = "{data}"
clip_seconds = 0.8
workers = 0
[masker]
name = "time-frequency"
[backbone]
name = "vit"
dim = 32
depth = 2
heads = 2
drop_path = 0.3
pool_norm = true
[[objective]]
name = "infonce"
hidden = 16
out = 8
[optimizer]
lr = 1e-5
[train]
steps = 4
batch_size = 16
log_every = 1
precision = "fp32"
"""


@pytest.mark.slow
def test_two_processes_in_micro_batches_have_the_losses_of_one_in_whole_batches(corpus, tmp_path):
    path = tmp_path / "contrast.toml"
    path.write_text(CONTRAST.format(data=corpus))
    one = train(path, out=tmp_path / "one", quiet=True, cpu=True)
    two = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "ssl_wb", "train", str(path), "--cpu", "--set", "train.micro_batch=4", "--out", str(tmp_path / "two"),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(two, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    for single, double in zip(rows_of(one), rows_of(tmp_path / "two"), strict=True):
        assert double["loss"] == pytest.approx(single["loss"], rel=1e-5)
        assert double["gradient_norm"] == pytest.approx(single["gradient_norm"], rel=1e-4)

"""Attention over frames: one frame of many knows the answer, and what lies past a clip's end has no part in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from probe_tasks import blobs
from ssl_wb.api import DataError
from ssl_wb_plugins.evaluators import attentive as module
from ssl_wb_plugins.evaluators.attentive import AttentiveOptions, AttentiveProbe, FrameAttention, Frames, _FrameScaling
from ssl_wb_plugins.evaluators.linear import LinearOptions, LinearProbe

QUICK = {"epochs": 30, "lr": 1e-2, "weight_decay": 1e-3, "batch_size": 32, "width": 16}
BRIEF = {**QUICK, "epochs": 2}
FRAMES, DIM, CLASSES = 20, 12, 4


def probe(task, seeds=(0, 1), **options):
    return AttentiveProbe(AttentiveOptions(**{**QUICK, **options}))(task, seeds)


def one_frame(clips=400, *, held_out=False):
    """Every frame names a class, and only the marked one, somewhere in the clip, names the clip's own.

    Clips have 10 to 20 frames. Dimension 0 is the mark, 1 to 4 are the classes, the others noise.
    """
    random = np.random.default_rng(11)
    task = blobs(clips=clips, held_out=held_out)
    counts = random.integers(FRAMES // 2, FRAMES + 1, size=clips)
    named = random.integers(CLASSES, size=(clips, FRAMES))
    place = random.integers(counts)  # [clips]
    rows = np.arange(clips)
    named[rows, place] = task.labels
    values = 0.3 * random.normal(size=(clips, FRAMES, DIM))
    values[..., 1 : 1 + CLASSES] += 2.0 * np.eye(CLASSES)[named]
    values[rows, place, 0] += 4.0
    values[np.arange(FRAMES) >= counts[:, None]] = 0.0
    return replace(task, embeddings=values.astype(np.float32), frames=counts)


def past_end(task):
    """Where clips have ended, bool ``[clips, T]``."""
    return np.arange(task.embeddings.shape[1]) >= task.frames[:, None]


@pytest.fixture(scope="module")
def task():
    return one_frame()


def test_it_finds_the_frame_that_the_mean_loses(task):
    mean = replace(task, embeddings=task.embeddings.sum(axis=1) / task.frames[:, None].astype(np.float32), frames=None)
    linear = LinearProbe(LinearOptions(lr=3e-3, weight_decay=1e-3, epochs=60))(mean, (0, 1)).mean
    attentive = probe(task)
    assert attentive.metric == "accuracy"
    assert attentive.mean > 0.9
    assert linear < 0.6


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e6])
def test_what_lies_past_a_clips_end_has_no_part(task, garbage):
    plain = probe(task, **BRIEF)
    values = task.embeddings.copy()
    values[past_end(task)] = garbage
    spoilt = probe(replace(task, embeddings=values), **BRIEF)
    np.testing.assert_array_equal(spoilt.scores[0].scores, plain.scores[0].scores)
    assert spoilt.settings["chosen"] == plain.settings["chosen"]


def test_more_padding_changes_nothing(task):
    plain = probe(task, **BRIEF)
    longer = np.pad(task.embeddings, ((0, 0), (0, 9), (0, 0)))
    padded = probe(replace(task, embeddings=longer), **BRIEF)
    np.testing.assert_array_equal(padded.scores[0].scores, plain.scores[0].scores)


def test_the_frames_standardise_and_not_the_padding(task):
    values = task.embeddings * np.float32(3.0) + np.float32(5.0)  # so that zeros would count for something
    values[past_end(task)] = 0.0
    shifted = replace(task, embeddings=values)
    rows = task.splits[0].train
    own = values[rows][~past_end(task)[rows]].astype(np.float64)  # [frames, D]
    scaling = _FrameScaling(shifted, rows, True)
    np.testing.assert_allclose(scaling.mean, own.mean(axis=0))
    np.testing.assert_allclose(scaling.std, own.std(axis=0))
    frames = scaling.inputs(shifted, rows)[:]
    assert frames.values[frames.past].abs().max() == 0
    torch.testing.assert_close(frames.values[~frames.past].mean(dim=0), torch.zeros(DIM), atol=1e-5, rtol=0)
    torch.testing.assert_close(frames.values[~frames.past].std(dim=0, correction=0), torch.ones(DIM))
    plain = _FrameScaling(shifted, rows, False).inputs(shifted, rows)[:]
    np.testing.assert_array_equal(plain.values.numpy(), values[rows][:, : plain.values.shape[1]])


def test_the_head_is_masked_attention_of_one_query():
    torch.manual_seed(0)
    head = FrameAttention(8, 3, 4)
    past = torch.arange(6) >= torch.tensor([6, 2, 4])[:, None]
    inputs = torch.randn(3, 6, 8).masked_fill(past[..., None], 0.0)
    with torch.no_grad():
        for parameter in (head.gain, head.shift, head.query):
            parameter.normal_()
        normed = functional.layer_norm(inputs, (8,), head.gain[0], head.shift[0], 1e-6)
        attended = functional.scaled_dot_product_attention(
            head.query.expand(3, 1, 4), head.key(normed), head.value(normed), attn_mask=~past[:, None]
        )[:, 0]
        torch.testing.assert_close(head(Frames(inputs, past)), head.linear(head.norm(attended)))
        weights = head.weights(Frames(inputs, past))
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
        assert weights[past].max() == 0
        # A clip's logits are its own, whatever it is padded for.
        alone = head(Frames(inputs[1:2, :2], past[1:2, :2]))
        torch.testing.assert_close(alone, head(Frames(inputs, past))[1:2])


def test_every_parameter_is_trained_once_and_matrices_decay():
    head = FrameAttention(8, 3, 4)
    decayed, free = head.groups({"lr": 1.0, "weight_decay": 0.1})
    grouped = [id(one) for group in (decayed, free) for one in group["params"]]
    assert sorted(grouped) == sorted(id(one) for one in head.parameters())
    names = {id(parameter): name for name, parameter in head.named_parameters()}
    assert {names[id(one)] for one in decayed["params"]} == {"key.weight", "value.weight", "linear.weight"}


def test_nothing_is_chosen_by_test_labels():
    task = one_frame(200, held_out=True)
    test = task.splits[0].test
    other = task.labels.copy()
    other[test] = (other[test] + 1) % CLASSES
    options = {**BRIEF, "lr": [1e-3, 1e-2]}
    one, two = probe(task, **options), probe(replace(task, labels=other), **options)
    assert one.settings["chosen"] == two.settings["chosen"]
    assert one.settings["chosen"]["split 0"]["refit"] is True
    np.testing.assert_array_equal(one.scores[0].scores, two.scores[0].scores)


def test_shuffled_labels_stay_at_chance_within_the_interval(task):
    shuffled = replace(task, labels=np.random.default_rng(5).permutation(task.labels))
    low, high = probe(shuffled, epochs=5).interval
    assert low <= 0.25 <= high


def test_seeds_repeat_exactly_and_differ_from_each_other(task):
    one, two = probe(task, **BRIEF), probe(task, **BRIEF)
    np.testing.assert_array_equal(one.scores[0].scores, two.scores[0].scores)
    first, second = one.scores[0].scores
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(probe(task, seeds=(1,), **BRIEF).scores[0].scores[0], second)


def test_several_labels_and_numbers_are_probed(task):
    random = np.random.default_rng(12)
    clips = len(task.labels)
    labels = (random.random((clips, CLASSES)) < 0.4).astype(np.float32)
    values, rows = task.embeddings.copy(), np.arange(clips)
    place = random.integers(task.frames)
    values[..., 0] -= values[..., 0] * (values[..., 0] > 2.0)  # the former mark
    values[rows, place, 0] = 4.0
    values[rows, place, 1 : 1 + CLASSES] = 2.0 * labels
    result = probe(replace(task, embeddings=values, labels=labels))
    assert result.metric == "mAP"
    assert result.mean > 0.9
    # A number far from 0, so that its scale matters.
    pitch = 200.0 + 50.0 * random.normal(size=clips)
    values[rows, place, 1] = (pitch - 200.0) / 50.0
    result = probe(replace(task, embeddings=values, labels=pitch, classes=["pitch"]))
    assert result.metric == "R2"
    assert result.mean > 0.8
    assert result.table["MAE"] < 20.0


class Mapped:
    """Embeddings in a file, and which clips and how many frames were read at a time."""

    def __init__(self, values):
        self.values, self.shape, self.ndim = values, values.shape, values.ndim
        self.reads = []

    def __getitem__(self, key):
        rows, frames = key
        self.reads.append((len(rows), frames.stop))
        return self.values[key]


def test_mapped_embeddings_are_read_batch_by_batch(task, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "NUMBERS", 25 * FRAMES * DIM)
    plain = probe(task, **BRIEF)
    np.save(tmp_path / "frames.npy", task.embeddings)
    mapped = Mapped(np.load(tmp_path / "frames.npy", mmap_mode="r"))
    result = probe(replace(task, embeddings=mapped), **BRIEF)
    np.testing.assert_array_equal(result.scores[0].scores, plain.scores[0].scores)
    clips, frames = np.array(mapped.reads).T
    assert clips.max() <= QUICK["batch_size"]
    assert frames.max() <= task.frames.max()


def test_embeddings_without_frames_are_refused(task):
    for wrong in (blobs(), replace(task, frames=None), replace(blobs(), frames=task.frames[:240])):
        with pytest.raises(DataError, match="needs one embedding per frame"):
            probe(wrong)
    for number in (0, FRAMES + 1):
        frames = task.frames.copy()
        frames[7] = number
        with pytest.raises(DataError, match=f"clip 7 is said to have {number} frames of {FRAMES}"):
            probe(replace(task, frames=frames))
    with pytest.raises(DataError, match="400 clips, and numbers of frames of shape"):
        probe(replace(task, frames=task.frames[:-1]))


@pytest.mark.parametrize("options", [{"width": 0}, {"lr": []}, {"heads": 3}, {"batch_size": 0}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        AttentiveOptions(**options)


def test_a_long_clip_does_not_pad_the_others(task, monkeypatch):
    longer = np.pad(task.embeddings, ((0, 0), (0, 40 * FRAMES), (0, 0)))
    longer[7, :] = np.random.default_rng(0).standard_normal(longer.shape[1:])
    counts = task.frames.copy()
    counts[7] = longer.shape[1]
    with_long = replace(task, embeddings=longer, frames=counts)
    plain = probe(with_long, **BRIEF)
    monkeypatch.setattr(module, "NUMBERS", 100 * FRAMES * DIM)
    sizes = []
    read = module._read
    monkeypatch.setattr(module, "_read", lambda *given: sizes.append((found := read(*given))[0].size) or found)
    grouped = probe(with_long, **BRIEF)
    # Its frames count once, and those of the others twice at most.
    assert max(sizes) <= max(longer[7].size * 2, 2 * task.embeddings.size)
    assert max(sizes) < QUICK["batch_size"] * longer[7].size / 4
    np.testing.assert_allclose(grouped.scores[0].scores, plain.scores[0].scores, rtol=1e-3, atol=1e-3)

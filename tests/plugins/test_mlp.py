"""The MLP probe on tasks with known answers; what it shares with the other trained heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import average_precision_score

from probe_tasks import blobs, several
from ssl_wb.api import DataError
from ssl_wb_plugins.evaluators.linear import LinearOptions, LinearProbe
from ssl_wb_plugins.evaluators.mlp import Mlp, MlpOptions, MlpProbe

QUICK = {"hidden": 32, "hidden_layers": 1, "lr": 3e-3, "epochs": 25, "batch_size": 50}


def mlp(task, seeds=(0, 1), **options):
    return MlpProbe(MlpOptions(**{**QUICK, **options}))(task, seeds)


def rings(clips=600):
    """Two classes that no line divides: a disc and the ring around it."""
    random = np.random.default_rng(0)
    labels = np.arange(clips) % 2
    angle = random.uniform(0, 2 * np.pi, clips)
    radius = np.where(labels == 1, 2.0, 0.5) + 0.1 * random.normal(size=clips)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return replace(blobs(clips=clips, classes=2), embeddings=points.astype(np.float32), labels=labels)


def test_separable_embeddings_reach_100_per_cent():
    result = mlp(blobs(spread=0.05))
    assert result.mean == 1.0
    assert result.interval == (1.0, 1.0)
    assert result.metric == "accuracy"


def test_classes_that_no_line_divides_are_learned():
    task = rings()
    assert mlp(task).mean > 0.98
    assert LinearProbe(LinearOptions(epochs=40))(task, (0,)).mean < 0.7


def test_shuffled_labels_stay_at_chance_within_the_interval():
    task = blobs(clips=800, dim=8)
    task = replace(task, labels=np.random.default_rng(5).permutation(task.labels))
    low, high = mlp(task).interval
    assert low <= 0.25 <= high


def test_a_label_leaked_into_the_test_clips_only_is_not_used():
    task = blobs(clips=400, dim=8, spread=30.0)
    test = task.splits[0].test
    task.embeddings[test, : len(task.classes)] += 100.0 * np.eye(len(task.classes))[task.labels[test]]
    assert mlp(task, seeds=(0, 1, 2)).interval[1] < 0.6


@pytest.mark.parametrize("held_out", [False, True])
def test_neither_the_choice_nor_the_weights_depend_on_test_labels(held_out):
    task = blobs(spread=3.0, clips=200, held_out=held_out)
    test = task.splits[0].test
    other = task.labels.copy()
    other[test] = (other[test] + 1) % 4
    options = {"lr": [1e-3, 1e-2], "hidden_layers": [1, 2], "epochs": 15}
    one, two = mlp(task, **options), mlp(replace(task, labels=other), **options)
    assert one.settings["chosen"] == two.settings["chosen"]
    np.testing.assert_array_equal(one.scores[0].scores, two.scores[0].scores)
    assert one.settings["chosen"]["split 0"]["refit"] is held_out


def test_validation_chooses_the_rate_and_the_epoch():
    chosen = mlp(blobs(spread=1.0), lr=[1e-7, 1e-2], epochs=60, patience=3).settings["chosen"]["split 0"]
    assert chosen["lr"] == 1e-2
    assert max(chosen["epochs"]) < 60
    full = mlp(blobs(spread=1.0), epochs=5, patience=None).settings["chosen"]["split 0"]
    assert full["epochs"] == [5, 5]


def test_seeds_repeat_exactly_differ_and_leave_the_callers_numbers_alone():
    task = blobs(spread=3.0, clips=600)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one = mlp(task, seeds=(0, 1, 2), epochs=4)
    torch.testing.assert_close(torch.rand(3), expected)
    two = mlp(task, seeds=(0, 1, 2), epochs=4)
    assert one.per_seed == two.per_seed
    assert len(set(one.per_seed)) > 1
    assert mlp(task, seeds=(0,), epochs=4).per_seed == one.per_seed[:1]


def test_multi_label_map_is_scikit_learns_and_far_above_chance():
    task = several(clips=600)
    result = mlp(task)
    truth = task.labels[task.splits[0].test]
    expected = np.mean([average_precision_score(truth, one, average="macro") for one in result.scores[0].scores])
    assert result.metric == "mAP"
    assert result.mean == pytest.approx(expected, abs=1e-6)
    assert result.mean > truth.mean() + 0.25


def test_a_number_is_regressed_in_its_own_unit():
    task = blobs(clips=600, dim=4)
    pitch = 60.0 + 12.0 * np.tanh(task.embeddings[:, 0] / 2) + task.embeddings[:, 1]
    result = mlp(replace(task, labels=pitch.astype(np.float64), classes=["pitch"]), epochs=60)
    assert result.metric == "R2"
    assert result.mean > 0.9
    assert result.scores[0].scores.mean() == pytest.approx(pitch.mean(), abs=2.0)


def test_the_scale_of_a_dimension_does_not_matter_unless_asked():
    task = blobs(spread=2.0)
    scaled = replace(task, embeddings=task.embeddings * np.geomspace(1e-3, 1e3, 16, dtype=np.float32) + 5)
    same = mlp(task, epochs=3).scores[0].scores
    np.testing.assert_allclose(mlp(scaled, epochs=3).scores[0].scores, same, atol=0.05)
    assert np.abs(mlp(scaled, epochs=3, standardise=False).scores[0].scores - same).max() > 0.5


def test_a_constant_dimension_and_a_lone_last_clip_do_no_harm():
    task = blobs(clips=242, spread=0.05)
    task.embeddings[:, 3] = 7.0
    assert len(task.splits[0].train) % 20 == 1
    assert mlp(task, batch_size=20).mean == 1.0


def test_an_empty_part_and_divergence_are_said():
    task = blobs()
    empty = replace(task.splits[0], validation=np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match="validation part is empty"):
        mlp(replace(task, splits=[empty]))
    with pytest.raises(DataError, match="diverged"):
        mlp(task, lr=1e30, epochs=5)


def test_the_network_is_hears():
    head = Mlp(12, 5, 2, 1024, 0.1)
    names = [type(layer).__name__ for layer in head.layers]
    assert names == ["Linear", "BatchNorm1d", "Dropout", "ReLU"] * 2 + ["Linear"]
    assert [layer.out_features for layer in head.layers if isinstance(layer, torch.nn.Linear)] == [1024, 1024, 5]
    assert float(head.layers[-1].bias.detach().abs().max()) == 0.0
    options = MlpOptions()
    assert (options.hidden, options.dropout, options.hidden_layers) == (1024, 0.1, [1, 2])


@pytest.mark.parametrize("options", [{"lr": 0.0}, {"lr": []}, {"hidden_layers": 0}, {"dropout": 1.0}, {"width": 3}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        MlpOptions(**options)

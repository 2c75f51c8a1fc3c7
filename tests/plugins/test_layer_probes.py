"""Layer probes on an encoder of which one layer, or two together, know the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from probe_tasks import blobs, several
from ssl_wb.api import DataError
from ssl_wb_plugins.evaluators.layers import LayerAttention, LayerProbes, LayersOptions, WeightedSum
from ssl_wb_plugins.evaluators.linear import LinearOptions, LinearProbe

QUICK = {"epochs": 25, "lr": 3e-3, "weight_decay": 1e-3, "batch_size": 50}


def probe(task, seeds=(0, 1), **options):
    return LayerProbes(LayersOptions(**{**QUICK, **options}))(task, seeds)


def layered(task, informative=2, layers=5, seed=3):
    """Put the task's embeddings into one layer (counted from 0), noise into the others."""
    noise = np.random.default_rng(seed).normal(size=(len(task.embeddings), layers, task.embeddings.shape[1]))
    noise[:, informative] = task.embeddings
    return replace(task, embeddings=noise.astype(np.float32))


@pytest.fixture(scope="module")
def found():
    return probe(layered(blobs(clips=400, spread=0.8)))


def test_the_informative_layer_is_found(found):
    table = found.table
    others = [table[f"layer {number}"] for number in (1, 2, 4, 5)]
    assert table["layer 3"] > 0.9
    assert max(others) < 0.45
    assert found.settings["chosen"]["split 0"]["best layer"] == "layer 3"
    assert table["best layer"] == table["layer 3"]
    assert found.detail["per layer"] == [table[f"layer {number}"] for number in range(1, 6)]


def test_the_weighted_sum_comes_close_to_it_and_says_why(found):
    assert found.metric == "accuracy"
    assert found.mean == found.table["weighted sum"]
    assert found.mean > found.table["layer 3"] - 0.05
    weights = found.detail["weighted-sum weights"]["split 0"]
    assert sum(weights) == pytest.approx(1.0, abs=1e-5)
    assert int(np.argmax(weights)) == 2
    assert weights[2] > 0.5


def test_so_does_the_attention_over_layers(found):
    assert found.table["attention over layers"] > 0.7  # noise layers are at 0.25
    weights = found.detail["attention weights"]["split 0"]
    assert sum(weights) == pytest.approx(1.0, abs=1e-5)
    assert int(np.argmax(weights)) == 2


def test_a_single_layer_is_the_linear_probe():
    task = blobs(clips=400, spread=2.5)
    result = probe(layered(task, informative=0, layers=2))
    linear = LinearProbe(LinearOptions(lr=3e-3, weight_decay=1e-3, epochs=25, batch_size=50))(task, (0, 1))
    assert result.table["layer 1"] == pytest.approx(linear.mean, abs=0.02)


def test_shuffled_labels_stay_at_chance_within_the_interval():
    task = layered(blobs(clips=600, dim=8), layers=2, informative=0)
    task = replace(task, labels=np.random.default_rng(5).permutation(task.labels))
    low, high = probe(task, epochs=10).interval
    assert low <= 0.25 <= high


def test_nothing_is_chosen_by_test_labels():
    task = layered(blobs(clips=200, spread=3.0, held_out=True), layers=3)
    test = task.splits[0].test
    other = task.labels.copy()
    other[test] = (other[test] + 1) % 4
    options = {"lr": [1e-3, 1e-2], "epochs": 5, "report": "best-layer"}
    one, two = probe(task, **options), probe(replace(task, labels=other), **options)
    assert one.settings["chosen"] == two.settings["chosen"]
    np.testing.assert_array_equal(one.scores[0].scores, two.scores[0].scores)
    assert one.detail["attention weights"] == two.detail["attention weights"]


@pytest.mark.parametrize(
    ("report", "name"),
    [("attention", "attention over layers"), ("best-layer", "best layer"), ("weighted-sum", "weighted sum")],
)
def test_the_headline_is_the_one_asked_for(report, name):
    result = probe(layered(blobs(clips=120), layers=2, informative=1), report=report, epochs=3)
    assert result.mean == result.table[name]


def test_several_labels_and_numbers_are_probed():
    result = probe(layered(several(), layers=2, informative=1))
    assert result.metric == "mAP"
    assert result.table["layer 2"] > result.table["layer 1"] + 0.2
    task = blobs(clips=400)
    numbers = replace(task, labels=task.embeddings[:, 0].astype(np.float64), classes=["pitch"])
    result = probe(layered(numbers, layers=2, informative=1), lr=1e-2)
    assert result.metric == "R2"
    assert result.table["layer 2"] > 0.9 > 0.5 > result.table["layer 1"]


def test_the_tasks_metric_is_that_of_every_row():
    task = layered(blobs(clips=120, spread=2.0), informative=1, layers=2)
    plain, other = probe(task, epochs=3), probe(replace(task, metric="macro F1"), epochs=3)
    assert other.metric == "macro F1"
    assert other.mean == pytest.approx(plain.table["macro F1"])
    assert other.table["layer 2"] != plain.table["layer 2"]


def test_the_attention_is_keys_values_and_one_query():
    torch.manual_seed(0)
    head = LayerAttention(3, 8, 2, 8)
    inputs = torch.randn(5, 3, 8)
    with torch.no_grad():
        head.gain.uniform_()
        head.query.normal_()
        normed = torch.stack(
            [
                torch.nn.functional.layer_norm(inputs[:, layer], (8,), head.gain[layer], head.shift[layer], 1e-6)
                for layer in range(3)
            ],
            dim=1,
        )
        attended = torch.nn.functional.scaled_dot_product_attention(
            head.query.expand(5, 1, 8), head.key(normed), head.value(normed)
        )[:, 0]
        torch.testing.assert_close(head(inputs), head.linear(head.norm(attended)))
        torch.testing.assert_close(head.weights(inputs).sum(dim=1), torch.ones(5))


def test_the_weighted_sum_starts_as_the_mean():
    head = WeightedSum(4, 6, 2, 50.0)
    inputs = torch.randn(3, 4, 6)
    torch.testing.assert_close(head(inputs), head.linear(inputs.mean(dim=1)))


def test_every_parameter_is_trained_once():
    for head in (LayerAttention(3, 8, 2, 4), WeightedSum(3, 8, 2, 50.0)):
        grouped = [id(one) for group in head.groups({"lr": 1.0, "weight_decay": 0.1}) for one in group["params"]]
        assert sorted(grouped) == sorted(id(one) for one in head.parameters())


def test_an_encoder_without_layers_is_refused():
    with pytest.raises(DataError, match="needs one per layer"):
        probe(blobs())


@pytest.mark.parametrize("options", [{"report": "last"}, {"scalar_lr": 0.0}, {"attention_width": 0}, {"heads": 3}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        LayersOptions(**options)

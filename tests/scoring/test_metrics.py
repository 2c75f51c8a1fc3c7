"""Metrics against scikit-learn, on the clips as they are and on resamples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    roc_curve,
)

from ssl_wb.errors import DataError
from ssl_wb.scoring.metrics import METRICS, average_precision, choose_metric, metric_of, metrics_for, score


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_average_precision_is_scikit_learns_also_with_ties_and_weights(data):
    count = data.draw(st.integers(2, 40))
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)))
    scores = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count)), dtype=np.float32)
    weights = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)), dtype=float)
    if not labels.any():
        assert np.isnan(average_precision(labels, scores)).all()
        return
    assert average_precision(labels, scores)[0] == pytest.approx(average_precision_score(labels, scores))
    resampled = average_precision(labels, scores, np.stack([weights, np.ones(count)]))
    assert resampled[1] == pytest.approx(average_precision_score(labels, scores))
    if (weights * labels).any():
        repeated = np.repeat(np.arange(count), weights.astype(int))
        assert resampled[0] == pytest.approx(average_precision_score(labels[repeated], scores[repeated]))
    else:
        assert np.isnan(resampled[0])


def test_macro_map_leaves_out_classes_without_positives():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, size=(50, 4)).astype(np.float32)
    labels[:, 2] = 0
    scores = random.normal(size=(50, 4))
    expected = np.mean([average_precision_score(labels[:, c], scores[:, c]) for c in (0, 1, 3)])
    assert score(labels, scores) == pytest.approx(expected)


def test_a_resample_without_positives_of_a_class_has_the_mean_of_the_others():
    labels = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], dtype=np.float32)
    scores = np.array([[0.9, 0.1], [0.8, 0.9], [0.3, 0.2], [0.1, 0.3]])
    without = METRICS["mAP"].value(labels, scores, np.array([[1.0, 0.0, 1.0, 2.0]]))  # the second class has none
    assert without[0] == average_precision_score(labels[[0, 2, 3], 0], scores[[0, 2, 3], 0])
    assert np.isnan(METRICS["mAP"].value(labels, scores, np.array([[0.0, 0.0, 0.0, 4.0]]))[0])


def several(seed, clips=60, classes=5):
    """Labels and scores, with ties among the scores, and a class without positives."""
    random = np.random.default_rng(seed)
    labels = (random.random((clips, classes)) < 0.3).astype(np.float32)
    labels[:, 2] = 0
    return labels, np.round(labels + random.normal(size=labels.shape), 1)


def value(name, labels, scores, weights=None):
    return METRICS[name].value(labels, scores, weights)


@pytest.mark.parametrize("seed", range(5))
def test_several_labels_are_scored_as_scikit_learn_does(seed):
    labels, scores = several(seed)
    there = [0, 1, 3, 4]
    expected = average_precision_score(labels[:, there], scores[:, there], average="macro")
    assert value("mAP", labels, scores)[0] == pytest.approx(expected)
    area = roc_auc_score(labels[:, there], scores[:, there], average="macro")
    assert value("macro AUC", labels, scores)[0] == pytest.approx(area)


@pytest.mark.parametrize("name", list(METRICS))
def test_a_weight_counts_as_a_copy(name):
    random = np.random.default_rng(0)
    kind = METRICS[name].kinds[0]
    if kind == "several":
        labels, scores = several(0)
    elif kind == "single":
        labels, scores = random.integers(0, 3, 60), random.normal(size=(60, 3))
    else:
        labels, scores = random.normal(size=60), random.normal(size=(60, 1))
    weights = random.integers(0, 3, (4, len(labels))).astype(float)
    for row, found in zip(weights, value(name, labels, scores, weights), strict=True):
        copied = np.repeat(np.arange(len(labels)), row.astype(int))
        assert found == pytest.approx(value(name, labels[copied], scores[copied])[0]), name


@pytest.mark.parametrize("seed", range(5))
def test_single_labels_are_scored_as_scikit_learn_does(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, 50)
    logits = 2 * np.eye(4)[labels] + random.normal(size=(50, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert value("macro F1", labels, logits)[0] == pytest.approx(f1_score(labels, logits.argmax(1), average="macro"))
    area = roc_auc_score(labels, shares, multi_class="ovr")
    assert value("macro AUC", labels, logits)[0] == pytest.approx(area)
    assert value("macro AUC", labels, shares)[0] == pytest.approx(area)


def test_f1_of_classes_that_are_never_answered_or_never_true():
    labels, scores = np.array([0, 0, 1, 1]), np.eye(4)[[0, 2, 2, 0]]
    assert value("macro F1", labels, scores)[0] == pytest.approx(f1_score(labels, scores.argmax(1), average="macro"))


def test_d_prime_is_what_the_area_says():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20_000)
    apart = np.stack([np.zeros(40_000), random.normal(size=40_000) + 1.5 * labels], axis=1)
    # Two normal distributions 1.5 standard deviations apart: that is what d-prime measures.
    assert value("d-prime", labels, apart)[0] == pytest.approx(1.5, abs=0.03)
    assert np.isfinite(value("d-prime", labels, np.eye(2)[labels])[0])


@pytest.mark.parametrize("seed", range(5))
def test_the_equal_error_rate_is_where_misses_and_false_alarms_meet(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 80)
    scores = np.round(np.stack([np.zeros(80), labels + random.normal(size=80)], axis=1), 1)
    alarms, hits, _ = roc_curve(labels, scores[:, 1], drop_intermediate=False)
    at = np.argmin(np.abs(1 - hits - alarms))
    assert value("EER", labels, scores)[0] == pytest.approx(0.5 * (1 - hits[at] + alarms[at]))
    assert value("EER", labels, np.eye(2)[labels])[0] == 0.0
    assert value("EER", labels, np.eye(2)[1 - labels])[0] == 1.0


def test_numbers_are_scored_as_scikit_learn_does():
    random = np.random.default_rng(0)
    labels, answers = random.normal(size=40), random.normal(size=(40, 1))
    assert value("R2", labels, answers)[0] == pytest.approx(r2_score(labels, answers[:, 0]))
    assert value("MAE", labels, answers)[0] == pytest.approx(mean_absolute_error(labels, answers[:, 0]))


def test_labels_have_a_metric_of_their_own():
    assert metric_of(np.array([0, 1])) == "accuracy"
    assert metric_of(np.eye(2, dtype=np.float32)) == "mAP"
    assert metric_of(np.array([0.5, 1.5])) == "R2"
    assert [metric.name for metric in metrics_for(np.array([0.5]))] == ["R2", "MAE"]


def test_a_metric_is_found_however_it_is_written():
    assert choose_metric("MACRO-f1", np.array([0, 1])).name == "macro F1"
    assert choose_metric(None, np.array([0, 1])).name == "accuracy"
    with pytest.raises(DataError, match="metric 'acuracy' is not known; did you mean 'accuracy'"):
        choose_metric("acuracy", np.array([0, 1]))
    with pytest.raises(DataError, match="metric 'mAP' is not for labels of one class per clip"):
        choose_metric("mAP", np.array([0, 1]))

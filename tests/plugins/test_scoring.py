"""Metrics against scikit-learn, and intervals against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from probe_tasks import blobs, several
from sklearn.metrics import average_precision_score

from ssl_wb.api import ProbeTask, Split
from ssl_wb_plugins.evaluators.scoring import SplitScores, average_precision, score, summarise


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


def test_missing_classes_are_noted_by_name():
    task = several()
    task.labels[task.splits[0].test, 3] = 0
    found = SplitScores(task.splits[0], np.zeros((1, len(task.splits[0].test), 5)))
    result = summarise(task, "fake", [found], settings={}, resamples=100)
    assert result.metric == "mAP"
    assert result.notes == ("split 0: 1 of 5 classes have no positive test clip and are left out of mAP (d)",)
    assert result.per_clip is None


def test_several_labels_have_an_interval_around_the_mean():
    task = several()
    split = task.splits[0]
    scores = task.labels[split.test][None] + np.random.default_rng(0).normal(size=(2, len(split.test), 5))
    result = summarise(task, "fake", [SplitScores(split, scores)], settings={}, resamples=500)
    low, high = result.interval
    assert low < result.mean < high
    assert 0.02 < high - low < 0.4


def test_means_are_over_seeds_and_splits_and_per_clip_scores_are_kept():
    task = blobs(splits=2, clips=40, classes=2)
    truth = np.eye(2)[task.labels]
    right, wrong = truth, 1 - truth
    first = SplitScores(task.splits[0], np.stack([right, wrong])[:, task.splits[0].test])
    second = SplitScores(task.splits[1], np.stack([right, right])[:, task.splits[1].test])
    result = summarise(task, "fake", [first, second], settings={}, resamples=100)
    assert result.per_fold == {"split 0": 0.5, "split 1": 1.0}
    assert result.per_seed == [1.0, 0.5]
    assert result.mean == 0.75
    tested = set(task.splits[0].test) | set(task.splits[1].test)
    assert set(np.flatnonzero(~np.isnan(result.per_clip))) == tested
    assert set(np.unique(result.per_clip[task.splits[1].test])) <= {0.5, 1.0}


def test_the_interval_covers_the_true_score_about_95_times_in_100():
    clips, truth, trials = 120, 0.7, 150
    rows = np.arange(clips)
    split = Split("test", rows[:1], rows[1:2], rows)
    covered, widths = 0, []
    for seed in range(trials):
        hit = np.random.default_rng(seed).random(clips) < truth
        task = ProbeTask("coin", np.zeros((clips, 1), np.float32), np.zeros(clips, np.int64), ["a", "b"], [split])
        scores = np.stack([hit, ~hit], axis=1)[None].astype(float)
        low, high = summarise(task, "fake", [SplitScores(split, scores)], settings={}, resamples=300).interval
        covered += low <= truth <= high
        widths.append(high - low)
    assert 0.88 <= covered / trials <= 0.99
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.sqrt(truth * (1 - truth) / clips), rel=0.1)


def test_the_same_scores_give_the_same_interval():
    task = blobs(clips=60)
    scores = np.random.default_rng(0).normal(size=(1, len(task.splits[0].test), 4))
    found = [SplitScores(task.splits[0], scores)]
    one, two = (summarise(task, "fake", found, settings={}, resamples=200) for _ in range(2))
    assert one.interval == two.interval

"""Paired differences and averages, on scores whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ssl_wb.errors import DataError, UsageError
from ssl_wb.evaluation.compare import AVERAGE, average, averaged, compare, difference
from ssl_wb.evaluation.runner import Row
from ssl_wb.plugin.evaluator import ProbeTask, Split, SplitScores
from ssl_wb.scoring.summary import interval_of, paired_draws, summarise

CLIPS = 200


def result(right, *, task="coins", several=False, metric=None, labels_seed=0, resamples=300):
    """A probe that is right on the clips given, by the metric of the labels."""
    labels = np.random.default_rng(labels_seed).integers(0, 2, CLIPS)
    rows = np.arange(CLIPS)
    truth = np.eye(2)[labels]
    if several:
        scores = np.where(right[:, None], truth, 0.5) + 0.01 * np.random.default_rng(1).random((CLIPS, 2))
        labels = truth.astype(np.float32)
    else:
        scores = np.where(right[:, None], truth, 1 - truth)
    probed = ProbeTask(
        task,
        np.zeros((CLIPS, 1), np.float32),
        labels,
        ["no", "yes"],
        [Split("test", rows[:0], rows[:0], rows)],
        metric=metric,
    )
    return summarise(probed, "fake", [SplitScores(probed.splits[0], scores[None])], settings={}, resamples=resamples)


def first(count):
    return np.arange(CLIPS) < count


def rows(**results):
    return [Row(name, one.task, "fake", one) for name, ones in results.items() for one in ones]


def test_a_difference_is_paired():
    found = difference(result(first(120)), result(first(100)))
    assert found.mean == pytest.approx(0.1)
    assert 0.05 < found.interval[0] < 0.1 < found.interval[1] < 0.15
    assert found.significant
    # The clips that both get right or wrong add nothing: two separate intervals would overlap.
    assert result(first(100)).interval[1] > result(first(120)).interval[0]


def test_equal_encoders_do_not_differ():
    same = difference(result(first(100)), result(first(100)))
    assert (same.mean, same.interval, same.significant) == (0.0, (0.0, 0.0), False)
    turned = difference(result(first(100)), result(~first(100)))  # as good, on other clips
    assert turned.interval[0] < turned.mean < turned.interval[1]
    assert not turned.significant


def test_the_other_way_round_is_the_negative():
    one, two = result(first(120)), result(first(100))
    there, back = difference(one, two), difference(two, one)
    assert back.mean == -there.mean
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_the_interval_of_no_difference_covers_0_about_95_times_in_100():
    covered = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        one, two = (result(random.random(CLIPS) < 0.7, resamples=100) for _ in range(2))
        low, high = interval_of(paired_draws(one, two, resamples=300)[1])
        covered += low <= 0 <= high
    assert 88 <= covered <= 100


@pytest.mark.parametrize("metric", ["mAP", "macro AUC", "d-prime", "EER"])
def test_metrics_without_a_score_per_clip_are_paired_too(metric):
    better, worse = (result(first(count), several=True, metric=metric) for count in (160, 60))
    found = difference(better, worse)
    assert found.mean == pytest.approx(better.mean - worse.mean)
    assert found.significant
    assert found.mean < 0 if metric == "EER" else found.mean > 0


def test_results_that_cannot_be_paired_are_refused():
    with pytest.raises(DataError, match="not of the same test clips"):
        difference(result(first(100)), result(first(100), labels_seed=3))
    with pytest.raises(DataError, match="not of the same test clips"):
        difference(result(first(100)), result(first(100), task="another"))
    with pytest.raises(DataError, match="no score per clip"):
        difference(result(first(100)), replace(result(first(100)), scores=()))


def test_everyone_is_compared_with_the_baseline_on_tasks_and_on_their_average():
    table = rows(
        base=[result(first(100)), result(first(100), task="tags", several=True)],
        good=[result(first(140)), result(first(180), task="tags", several=True)],
        half=[result(first(140))],
    )
    found = compare(table, "base")
    assert set(found) == {
        *(("good", "coins", "fake"), ("good", "tags", "fake"), ("good", AVERAGE, "fake")),
        ("half", "coins", "fake"),  # without one of the tasks there is no average
    }
    together = found["good", AVERAGE, "fake"]
    parts = [found["good", task, "fake"] for task in ("coins", "tags")]
    assert together.mean == pytest.approx(np.mean([part.mean for part in parts]))
    width = together.interval[1] - together.interval[0]
    assert width < np.mean([part.interval[1] - part.interval[0] for part in parts])  # independent parts


def test_averages_leave_out_what_is_no_share_or_where_less_is_better():
    table = rows(
        one=[
            result(first(100)),
            result(first(100), task="tags", several=True),
            result(first(100), task="fakes", metric="EER"),
            result(first(100), task="far", metric="d-prime"),
        ]
    )
    assert averaged(table, "fake") == ["coins", "tags"]
    assert average(table, "one", "fake") == pytest.approx(np.mean([row.result.mean for row in table[:2]]))
    assert averaged(table[:1], "fake") == []
    assert np.isnan(average(table[:1], "one", "fake"))


def test_a_baseline_that_is_no_row_is_refused():
    with pytest.raises(UsageError, match="no row is named 'bas'; did you mean 'base'"):
        compare(rows(base=[result(first(9))]), "bas")

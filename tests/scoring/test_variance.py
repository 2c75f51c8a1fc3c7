"""Intervals and tests over pre-training seeds and clips: known cases, and error rates on constructed runs."""

from __future__ import annotations

import numpy as np
import pytest
from comparison_simulation import runs
from scipy import stats

from ssl_wb.evaluation.comparison import compare_cells
from ssl_wb.scoring.clip_scores import ClipScores, covariance
from ssl_wb.scoring.variance import (
    Sample,
    average_samples,
    difference_sample,
    equivalence_p,
    estimate,
    holm,
    mean_sample,
)


def marked(what, scores, *, repeats=200, seeds=3, clips=1000, tasks=1, start=0):
    """Return how often any difference to the first cell is marked."""
    hits = 0
    for repeat in range(repeats):
        cells = runs(scores, seeds, clips, np.random.default_rng([start, repeat]), tasks)
        found = compare_cells(cells, {cell.name: "cell 0" for cell in cells[1:]})
        hits += any(getattr(one, what) for one in found.contrasts.values())
    return hits / repeats


def test_no_difference_is_marked_in_at_most_five_per_cent_of_200_draws():
    assert marked("different", [0.7, 0.7]) <= 0.05


def test_no_difference_is_marked_with_many_comparisons_either():
    assert marked("different", [0.7, 0.7, 0.7], repeats=100, clips=400, tasks=2) <= 0.05


def test_five_points_are_marked():
    assert marked("different", [0.7, 0.75], repeats=40, seeds=5, clips=2000) >= 0.9


def test_a_difference_of_the_margin_is_called_equal_in_at_most_five_per_cent_of_200_draws():
    assert marked("equivalent", [0.7, 0.71], clips=2000) <= 0.05


def test_equal_cells_are_called_equal_where_seeds_and_clips_suffice():
    cells = runs([0.7, 0.7], 8, 20000, np.random.default_rng(1))
    found = compare_cells(cells, {"cell 1": "cell 0"}, margin=2.5)
    assert found.contrasts["cell 1", "task 0", "linear"].equivalent
    assert not compare_cells(cells, {"cell 1": "cell 0"}, margin=0.1).contrasts["cell 1", "task 0", "linear"].equivalent


def test_without_clips_that_vary_together_it_is_the_t_interval_over_seeds():
    values = np.array([0.70, 0.72, 0.75])
    found = estimate(mean_sample(values, np.zeros((3, 3)), 10**6))
    low, high = stats.t.interval(0.95, 2, values.mean(), values.std(ddof=1) / np.sqrt(3))
    assert found.interval() == pytest.approx((low, high))
    assert found.df == pytest.approx(2.0)


def test_without_covariance_a_difference_is_welchs_test():
    a, b = np.array([0.70, 0.72, 0.75]), np.array([0.60, 0.66, 0.61, 0.70])
    found = estimate(difference_sample(a, b, np.zeros((7, 7)), 10**6))
    assert found.p_value() == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


def test_one_seed_is_a_test_over_clips_alone():
    found = estimate(difference_sample(np.array([0.8]), np.array([0.7]), np.array([[4e-4, 1e-4], [1e-4, 4e-4]]), 500))
    assert found.variance == pytest.approx(6e-4)
    assert found.df == 499


def test_noise_that_both_cells_share_cancels():
    shared = np.full((4, 4), 1e-3)
    a, b = np.array([0.70, 0.71]), np.array([0.60, 0.61])
    assert difference_sample(a, b, shared, 1000).clip_variance == pytest.approx(0.0, abs=1e-12)
    assert mean_sample(a, shared[:2, :2], 1000).clip_variance == pytest.approx(1e-3)


def test_runs_that_agree_by_chance_on_few_clips_prove_nothing():
    found = estimate(difference_sample(np.array([0.5, 0.5]), np.array([0.5, 0.5]), np.zeros((4, 4)), 20))
    assert found.error >= 1 / 20
    assert equivalence_p(found, 0.01) > 0.3


def test_the_average_over_tasks_divides_the_noise_of_clips():
    one = Sample((np.array([0.1, 0.2]),), 4e-4, 99.0)
    mean = average_samples([one, one, one, one])
    assert mean is not None
    assert mean.clip_variance == pytest.approx(1e-4)
    assert mean.clip_df == pytest.approx(4 * 99.0)
    assert average_samples([one, Sample((np.array([0.1]),), 0.0, 9.0)]) is None


def test_holm_is_step_down_and_keeps_what_is_not_known():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, float("nan"), 0.9])[0] == pytest.approx(1.0)
    assert np.isnan(holm([0.6, float("nan")])[1])
    assert holm([]) == []


def test_equivalence_is_two_one_sided_tests():
    found = estimate(Sample((np.array([0.000, 0.002, 0.001]),), 0.0, 999.0))
    above = stats.ttest_1samp([0.000, 0.002, 0.001], -0.01, alternative="greater").pvalue
    below = stats.ttest_1samp([0.000, 0.002, 0.001], 0.01, alternative="less").pvalue
    assert equivalence_p(found, 0.01) == pytest.approx(max(above, below))


def accuracy(right, split=None):
    parts = [np.asarray(right)] if split is None else [np.asarray(right)[:, part] for part in split]
    clips = tuple(np.arange(part.shape[1]) for part in parts)
    return ClipScores("accuracy", clips, tuple(np.zeros(len(one), dtype=int) for one in clips), tuple(parts))


def test_the_covariance_of_accuracies_is_that_of_means_over_clips():
    random = np.random.default_rng(0)
    one, two = random.random((3, 400)) < 0.7, random.random((3, 400)) < 0.6
    found = covariance([accuracy(one), accuracy(two)])
    assert found == pytest.approx(np.cov(one.mean(axis=0), two.mean(axis=0)) / 400)


def test_the_covariance_of_other_metrics_is_by_a_bootstrap_on_the_same_clips():
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, size=300)
    noisy = [np.stack([1.0 - labels, labels], axis=1)[None] + random.normal(size=(1, 300, 2)) for _ in range(2)]
    results = [ClipScores("macro F1", (np.arange(300),), (labels,), (one,)) for one in (noisy[0], noisy[0], noisy[1])]
    found = covariance(results)
    assert found[0, 0] == pytest.approx(found[0, 1])  # the same run twice
    assert 0 < found[0, 0] < 0.01
    assert found[0, 2] < found[0, 0]

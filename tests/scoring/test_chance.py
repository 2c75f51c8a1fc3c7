"""The row of chance against simulated guesses."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_wb.scoring.metrics import METRICS

DRAWS = 4000


def several(clips, *positives):
    """Labels ``[clips, classes]`` with so many positives each."""
    labels = np.zeros((clips, len(positives)), np.float32)
    for column, count in enumerate(positives):
        labels[:count, column] = 1
    return labels


def single(*counts):
    """Labels ``[clips]`` with so many clips of each class."""
    return np.repeat(np.arange(len(counts)), counts)


def close(expected, draws):
    """Whether the mean of draws is as expected, within four of its standard errors."""
    error = np.std(draws) / np.sqrt(len(draws))
    assert 0 < error < 0.01
    assert expected == pytest.approx(np.mean(draws), abs=4 * error)


@pytest.mark.parametrize("labels", [several(20, 1), several(20, 1, 3, 12), several(50, 2, 0, 49), several(7, 4, 2)])
def test_map_is_that_of_random_order(labels):
    random = np.random.default_rng(0)
    columns = []
    for column in labels.T[labels.any(axis=0)]:  # a class without positives has no value
        orders = random.permuted(np.tile(column, (DRAWS, 1)), axis=1)  # [draws, clips], highest score first
        precision = orders.cumsum(axis=1) / np.arange(1, len(column) + 1)
        columns.append((precision * orders).sum(axis=1) / column.sum())
    close(METRICS["mAP"].chance(labels), np.mean(columns, axis=0))


def test_map_at_its_edges():
    value = METRICS["mAP"]
    assert value.chance(several(1, 1)) == 1.0
    assert value.chance(several(9, 9, 9)) == pytest.approx(1.0)
    assert np.isnan(value.chance(several(5, 0, 0)))
    # With many positives the share of positives is what is left.
    assert value.chance(several(100_000, 20_000)) == pytest.approx(0.2, abs=1e-4)
    # One positive among many: mean of 1 / rank.
    assert value.chance(several(4, 1)) == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)


UNEVEN = [single(10, 10), single(18, 2), single(30, 5, 1), single(4, 3, 2, 1), single(3, 0, 2)]


def guesses(labels, name):
    """Macro F1 of one way to guess, drawn often."""
    random = np.random.default_rng(1)
    classes, counts = np.unique(labels, return_counts=True)
    shares = {"most frequent": counts == counts.max(), "uniform": counts > 0, "proportional": counts}[name]
    if name == "most frequent":
        shares = np.eye(len(counts))[counts.argmax()]
    answers = random.choice(classes, size=(DRAWS, len(labels)), p=shares / shares.sum())
    f1 = []
    for label, count in zip(classes, counts, strict=True):
        right = (answers[:, labels == label] == label).sum(axis=1)
        f1.append(2 * right / (count + (answers == label).sum(axis=1)))
    return np.mean(f1, axis=0)  # [draws]


@pytest.mark.parametrize("labels", UNEVEN, ids=lambda labels: str(np.bincount(labels).tolist()))
def test_macro_f1_is_the_best_of_three_ways_to_guess(labels):
    found = {name: guesses(labels, name) for name in ("most frequent", "uniform", "proportional")}
    means = {name: np.mean(draws) for name, draws in found.items()}
    best = max(means, key=means.get)
    chance = METRICS["macro F1"].chance(labels)
    if np.std(found[best]):
        close(chance, found[best])
    else:
        assert chance == pytest.approx(means[best])
    # None of the others beats it by more than the noise of the draws.
    assert all(mean < chance + 0.01 for mean in means.values())


def test_macro_f1_of_many_clips_is_one_over_the_classes():
    """Guessing each class as often as it occurs, F1 tends to each class's share, and their mean to 1 / classes."""
    labels = single(9000, 600, 300, 100)
    assert METRICS["macro F1"].chance(labels) == pytest.approx(0.25, abs=2e-3)
    answer = np.eye(4)[np.zeros(len(labels), int)]
    assert METRICS["macro F1"].value(labels, answer, None)[0] < 0.24  # the most frequent class has less


def test_macro_f1_of_one_class_only_is_perfect():
    assert METRICS["macro F1"].chance(single(0, 5)) == 1.0


def test_the_others():
    assert METRICS["accuracy"].chance(single(1, 6, 3)) == 0.6
    assert METRICS["EER"].chance(single(1, 6)) == METRICS["macro AUC"].chance(several(9, 2)) == 0.5
    assert METRICS["d-prime"].chance(single(1, 6)) == 0.0
    numbers = np.array([1.0, 2.0, 6.0])
    assert METRICS["R2"].chance(numbers) == pytest.approx(0.0)
    assert METRICS["MAE"].chance(numbers) == pytest.approx(5 / 3)

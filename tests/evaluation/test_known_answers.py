"""Probes on embeddings whose answer is known: separable, shuffled, leaked, and numbers."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_wb.plugin.evaluator import ProbeTask, Split
from ssl_wb.plugin.registry import load_registry

CLIPS, WIDTH, CLASSES = 600, 24, 4
PARTS = np.split(np.random.default_rng(5).permutation(CLIPS), [300, 400])


def evaluator(name, **options):
    kind = load_registry().get("evaluator", name)
    return kind(kind.Options(**options))


def task(embeddings, labels, **options):
    split = Split("test", *(np.sort(part) for part in PARTS))
    classes = [str(number) for number in range(labels.shape[1] if labels.ndim == 2 else CLASSES)]
    return ProbeTask("known", embeddings.astype(np.float32), labels, classes, [split], **options)


@pytest.fixture
def labels():
    return np.random.default_rng(1).integers(0, CLASSES, CLIPS)


def noise(seed=2):
    return np.random.default_rng(seed).normal(size=(CLIPS, WIDTH))


def separable(labels):
    return noise() + 12 * np.eye(CLASSES, WIDTH)[labels]


PROBES = pytest.mark.parametrize("name", ["linear", "knn"])


@PROBES
def test_separable_embeddings_reach_100_per_cent(name, labels):
    result = evaluator(name)(task(separable(labels), labels), (0, 1, 2))
    assert result.mean == 1.0
    assert result.interval == (1.0, 1.0)
    assert result.table["macro AUC"] == pytest.approx(1.0, abs=1e-3)
    assert result.std == 0.0


@PROBES
def test_shuffled_labels_stay_at_chance(name, labels):
    shuffled = np.random.default_rng(3).permutation(labels)
    result = evaluator(name)(task(separable(labels), shuffled), (0, 1, 2))
    low, high = result.interval
    assert low < 1 / CLASSES < high
    assert high - low < 0.15
    assert result.table["macro AUC"] == pytest.approx(0.5, abs=0.08)


@PROBES
def test_a_label_leaked_into_the_test_part_only_is_not_used(name, labels):
    """Test clips carry their label in dimensions that are silent elsewhere: whoever fits on them finds it at once."""
    plain = np.concatenate([noise(), np.zeros((CLIPS, CLASSES))], axis=1)
    leaked, test = plain.copy(), PARTS[2]
    leaked[test, WIDTH:] = np.eye(CLASSES)[labels[test]]
    probe = evaluator(name)
    found = probe(task(leaked, labels), (0, 1, 2))
    assert found.interval[0] < 1 / CLASSES < found.interval[1]
    # Whatever the test clips are, what was chosen on validation is the same.
    assert found.settings["chosen"] == probe(task(plain, labels), (0, 1, 2)).settings["chosen"]


@PROBES
def test_numbers_are_predicted_and_shuffled_ones_are_not(name):
    embeddings = noise()
    pitch = 60 + 5 * embeddings[:, 0] + 3 * embeddings[:, 1]
    options = {"lr": [1e-2]} if name == "linear" else {}
    found = evaluator(name, **options)(task(embeddings, pitch), (0, 1, 2))
    assert found.metric == "R2"
    assert found.mean > (0.97 if name == "linear" else 0.3)
    assert found.table["MAE"] < np.abs(pitch - pitch.mean()).mean()
    shuffled = np.random.default_rng(3).permutation(pitch)
    assert evaluator(name, **options)(task(embeddings, shuffled), (0,)).mean < 0.05


def test_a_number_is_not_read_off_the_test_part(labels):
    """The scale of numbers is that of training clips: another scale in the test part is not followed."""
    del labels
    embeddings = noise()
    pitch = 60 + 5 * embeddings[:, 0]
    moved = pitch.copy()
    moved[PARTS[2]] += 1000
    probe = evaluator("linear", lr=1e-2)
    there, here = (probe(task(embeddings, numbers), (0,)) for numbers in (moved, pitch))
    np.testing.assert_array_equal(there.scores[0].scores, here.scores[0].scores)
    assert there.table["MAE"] > 900

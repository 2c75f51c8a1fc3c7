"""The nearest-neighbour probe beside scikit-learn, and on tasks with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from probe_tasks import blobs, several
from ssl_wb.api import ProbeTask, Split
from ssl_wb_plugins.evaluators.knn import KnnOptions, KnnProbe


def knn(task, seeds=(0, 1), **options):
    return KnnProbe(KnnOptions(**options))(task, seeds)


def test_separable_embeddings_reach_100_per_cent():
    result = knn(blobs(spread=0.05))
    assert result.mean == 1.0
    assert result.per_seed == [1.0, 1.0]


def test_shuffled_labels_stay_at_chance_within_the_interval():
    task = blobs(clips=800, dim=8)
    task = replace(task, labels=np.random.default_rng(6).permutation(task.labels))
    low, high = knn(task).interval
    assert low <= 0.25 <= high


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("standardise", [True, False])
def test_agrees_with_scikit_learn(distance, weights, standardise):
    task = blobs(clips=400, spread=2.0)
    split = task.splits[0]
    scaler = StandardScaler(with_mean=standardise, with_std=standardise).fit(task.embeddings[split.train].astype(float))
    scaled = scaler.transform(task.embeddings.astype(float))
    # An odd k and few classes: ties, which scikit-learn breaks by class order, are rare but not impossible.
    model = KNeighborsClassifier(9, metric=distance, weights=weights)
    model.fit(scaled[split.train], task.labels[split.train])
    expected = model.score(scaled[split.test], task.labels[split.test])
    result = knn(task, k=9, distance=distance, weights=weights, standardise=standardise)
    assert result.mean == pytest.approx(expected, abs=0.03 if weights == "uniform" else 1e-9)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_exponential_votes_are_the_published_ones(temperature):
    task = blobs(clips=200, spread=2.0)
    split = task.splits[0]
    unit = task.embeddings / np.linalg.norm(task.embeddings, axis=1, keepdims=True)
    cosine = unit[split.test].astype(float) @ unit[split.train].astype(float).T  # [n, m]
    near = np.argsort(-cosine, axis=1)[:, :9]  # [n, 9]
    weight = np.exp(np.take_along_axis(cosine, near, axis=1) / temperature)
    votes = np.stack(
        [(weight * (task.labels[split.train][near] == c)).sum(axis=1) for c in range(len(task.classes))], 1
    )
    result = knn(task, k=9, weights="exponential", temperature=temperature, standardise=False, refit="never")
    np.testing.assert_allclose(result.scores[0].scores[0], votes / votes.sum(axis=1, keepdims=True), rtol=1e-4)


def test_exponential_votes_need_cosines():
    with pytest.raises(ValidationError, match="of cosines"):
        KnnOptions(weights="exponential", distance="euclidean")


def test_validation_chooses_k():
    task = blobs(clips=300, spread=4.0)
    chosen = knn(task, k=[1, 20]).settings["chosen"]["split 0"]
    accuracy = {k: knn(task, k=k).settings["chosen"]["split 0"]["validation"] for k in (1, 20)}
    assert accuracy[1] != accuracy[20]
    assert chosen["k"] == max(accuracy, key=accuracy.get)
    assert chosen["validation"] == max(accuracy.values())


def test_the_choice_does_not_depend_on_test_labels():
    task = blobs(spread=3.0)
    other = task.labels.copy()
    other[task.splits[0].test] = 0
    assert knn(task).settings["chosen"] == knn(replace(task, labels=other)).settings["chosen"]


def line(points, labels, test):
    """Clips on a line; the last point is tested."""
    embeddings = np.array([*points, test], dtype=np.float32)[:, None]
    rows = np.arange(len(points))
    split = Split("test", rows, rows[:1], np.array([len(points)]))
    return ProbeTask("line", embeddings, np.array([*labels, 0]), ["a", "b"], [split])


def test_equal_votes_go_to_the_nearer_class_whatever_the_order():
    options = {"k": 2, "distance": "euclidean", "standardise": False}
    assert knn(line([1.0, -2.0], [0, 1], 0.0), **options).mean == 1.0
    assert knn(line([-2.0, 1.0], [1, 0], 0.0), **options).mean == 1.0
    assert knn(line([2.0, -1.0], [0, 1], 0.0), **options).mean == 0.0


def test_equally_near_clips_are_taken_in_their_order():
    options = {"k": 1, "distance": "euclidean", "standardise": False}
    assert knn(line([1.0, -1.0], [0, 1], 0.0), **options).mean == 1.0
    assert knn(line([-1.0, 1.0], [1, 0], 0.0), **options).mean == 0.0


def test_a_copy_of_a_training_clip_is_found_despite_the_weights():
    task = line([0.0, 1.0, 1.1], [0, 1, 1], 0.0)
    assert knn(task, k=3, distance="euclidean", weights="distance", standardise=False).mean == 1.0
    assert knn(task, k=3, distance="euclidean", weights="uniform", standardise=False).mean == 0.0


def test_held_out_clips_vote_on_test_clips():
    assert knn(blobs(held_out=True)).settings["chosen"]["split 0"]["refit"] is True
    assert knn(blobs(held_out=False)).settings["chosen"]["split 0"]["refit"] is False


def test_more_neighbours_than_clips_are_all_of_them():
    assert knn(line([1.0, -2.0], [0, 1], 0.0), k=50, standardise=False, distance="euclidean").mean == 1.0


def test_several_labels_beat_chance():
    task = several(clips=600)
    result = knn(task)
    assert result.metric == "mAP"
    assert result.mean > task.labels[task.splits[0].test].mean() + 0.15


@pytest.mark.parametrize("options", [{"k": 0}, {"k": []}, {"distance": "manhattan"}, {"neighbours": 3}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        KnnOptions(**options)

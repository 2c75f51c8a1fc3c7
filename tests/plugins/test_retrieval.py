"""Retrieval beside a plain loop and scikit-learn, and on tasks with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler

from probe_tasks import blobs, several
from ssl_wb.api import DataError, ProbeTask, Split
from ssl_wb_plugins.evaluators.retrieval import Retrieval, RetrievalOptions


def retrieve(task, seeds=(0, 1), **options):
    return Retrieval(RetrievalOptions(**options))(task, seeds)


def similarities(task, split, gallery):
    scaled = StandardScaler().fit(task.embeddings[split.train].astype(float)).transform(task.embeddings.astype(float))
    unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit[split.test] @ unit[gallery].T


def plain(task, split, gallery, k, relevant, *, alone=False):
    """Loop over queries and ranks; return mAP@k and P@k."""
    found = []
    for query, row in zip(split.test, similarities(task, split, gallery), strict=True):
        order = [clip for _, clip in sorted(zip(-row, gallery, strict=True)) if not (alone and clip == query)]
        hits = [relevant(query, clip) for clip in order]
        if not any(hits):
            continue
        gained = sum(sum(hits[: rank + 1]) / (rank + 1) for rank in range(min(k, len(hits))) if hits[rank])
        found.append((gained / min(k, sum(hits)), sum(hits[:k]) / min(k, len(hits))))
    return np.mean(found, axis=0)


def test_separable_embeddings_are_retrieved_without_a_mistake():
    result = retrieve(blobs(spread=0.01), k=[1, 5, 10])
    assert result.mean == 1.0
    assert result.interval == (1.0, 1.0)
    assert result.metric == "mAP@10"
    assert set(result.table) == {"mAP", "mAP@1", "P@1", "mAP@5", "P@5", "P@10"}
    assert set(result.table.values()) == {1.0}


def test_shuffled_labels_stay_at_chance():
    task = blobs(clips=600, dim=8)
    task = replace(task, labels=np.random.default_rng(5).permutation(task.labels))
    result = retrieve(task)
    assert result.table["P@10"] == pytest.approx(0.25, abs=0.03)
    assert result.table["mAP"] == pytest.approx(0.26, abs=0.03)


@pytest.mark.parametrize("k", [1, 7, 1000])
@pytest.mark.parametrize("gallery", ["train", "leave-one-out"])
def test_agrees_with_a_plain_loop(k, gallery):
    task = blobs(clips=120, spread=2.5)
    split = task.splits[0]
    alone = gallery == "leave-one-out"
    clips = split.test if alone else split.train
    expected = plain(task, split, clips, k, lambda a, b: task.labels[a] == task.labels[b], alone=alone)
    result = retrieve(task, k=k, gallery=gallery)
    assert result.mean == pytest.approx(expected[0])
    assert result.table[f"P@{k}"] == pytest.approx(expected[1])


def test_clips_with_one_label_in_common_are_relevant():
    task = several(clips=150)
    split = task.splits[0]
    expected = plain(task, split, split.train, 10, lambda a, b: bool((task.labels[a] * task.labels[b]).any()))
    result = retrieve(task)
    assert result.mean == pytest.approx(expected[0])
    empty = int((task.labels[split.test].sum(axis=1) == 0).sum())
    assert empty > 0
    assert any(f"{empty} of {len(split.test)} queries" in note for note in result.notes)


def test_the_whole_ranking_is_scikit_learns_average_precision():
    task = blobs(clips=200, spread=3.0)
    split = task.splits[0]
    rows = similarities(task, split, split.train)
    truth = task.labels[split.test][:, None] == task.labels[split.train][None, :]
    expected = np.mean([average_precision_score(a, b) for a, b in zip(truth, rows, strict=True)])
    assert retrieve(task).table["mAP"] == pytest.approx(expected)


def test_the_interval_covers_the_mean_and_narrows_with_more_queries():
    few, many = retrieve(blobs(clips=100, spread=3.0)), retrieve(blobs(clips=1600, spread=3.0))
    for result in (few, many):
        assert result.interval[0] < result.mean < result.interval[1]
    assert np.diff(many.interval) < np.diff(few.interval)


def test_the_width_of_the_interval_is_that_of_a_mean_of_queries():
    values = np.random.default_rng(0).beta(1.2, 1.0, 200)
    low, high = Retrieval(RetrievalOptions())._interval([values, np.full(3, np.nan)])
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 200**0.5, rel=0.1)
    assert low < values.mean() < high


def test_held_out_clips_are_in_the_gallery_and_others_are_not():
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]], dtype=np.float32)
    parts = (np.array([1]), np.array([0]), np.array([2]))
    task = ProbeTask("three", embeddings, np.array([0, 1, 0]), ["a", "b"], [Split("s", *parts, held_out=True)])
    assert retrieve(task, standardise=False, k=1).mean == 1.0
    fixed = retrieve(replace(task, splits=[Split("s", *parts)]), standardise=False, k=1)
    assert np.isnan(fixed.mean)
    assert any("1 of 1 queries" in note for note in fixed.notes)


def test_numbers_and_lone_queries_are_refused():
    task = blobs()
    with pytest.raises(DataError, match="its labels are numbers"):
        retrieve(replace(task, labels=task.labels.astype(float)))
    split = replace(task.splits[0], test=task.splits[0].test[:1])
    with pytest.raises(DataError, match="gallery is empty"):
        retrieve(replace(task, splits=[split]), gallery="leave-one-out")


@pytest.mark.parametrize("options", [{"k": 0}, {"k": []}, {"gallery": "all"}, {"at": 3}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        RetrievalOptions(**options)

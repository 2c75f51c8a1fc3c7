"""Cluster figures beside scikit-learn, and on tasks with known answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from probe_tasks import blobs, several
from ssl_wb.api import Assigned, DataError
from ssl_wb_plugins.evaluators import clusters as module
from ssl_wb_plugins.evaluators.clusters import Clusters, ClustersOptions


def cluster(task, seeds=(0, 1), **options):
    return Clusters(ClustersOptions(**options))(task, seeds)


def test_separate_blobs_are_found_by_both():
    result = cluster(blobs(spread=0.1, clips=400, splits=2))
    assert result.mean == pytest.approx(1.0)
    assert result.metric == "k-means NMI"
    expected = dict.fromkeys(("k-means ARI", "k-means purity", "HDBSCAN NMI", "HDBSCAN ARI", "HDBSCAN purity"), 1.0)
    assert result.table == pytest.approx({**expected, "HDBSCAN clusters": 4.0, "HDBSCAN noise": 0.0})
    assert result.per_fold == pytest.approx({"split 0": 1.0, "split 1": 1.0})
    assert result.per_seed == pytest.approx([1.0, 1.0])


def test_random_labels_share_nothing_with_the_clusters():
    task = blobs(clips=3000, dim=6)
    task = replace(task, labels=np.random.default_rng(3).permutation(task.labels))
    result = cluster(task)
    assert result.mean < 0.01
    assert abs(result.table["k-means ARI"]) < 0.01
    assert result.table["k-means purity"] == pytest.approx(0.27, abs=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_scikit_learns(seed):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 5, 80)
    found = np.where(random.random(80) < 0.6, labels, random.integers(-1, 7, 80))
    counts = module.contingency(labels, found)
    assert counts.sum() == 80
    assert module.normalised_mutual_information(counts) == pytest.approx(normalized_mutual_info_score(labels, found))
    assert module.adjusted_rand_index(counts) == pytest.approx(adjusted_rand_score(labels, found))
    largest = sum(np.bincount(labels[found == one]).max() for one in np.unique(found))
    assert module.purity(counts) == pytest.approx(largest / 80)


def test_one_group_on_either_side():
    same = np.zeros(6, dtype=np.int64)
    other = np.array([0, 0, 0, 1, 1, 1])
    for labels, found in ((same, other), (other, same), (same, same)):
        counts = module.contingency(labels, found)
        assert module.normalised_mutual_information(counts) == normalized_mutual_info_score(labels, found)
        assert module.adjusted_rand_index(counts) == adjusted_rand_score(labels, found)


def test_the_jackknife_leaves_out_every_clip_once():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 40)
    found = np.where(random.random(40) < 0.7, labels, random.integers(0, 3, 40))
    values = np.array(
        [normalized_mutual_info_score(np.delete(labels, row), np.delete(found, row)) for row in range(40)]
    )
    expected = 39 / 40 * ((values - values.mean()) ** 2).sum()
    counts = module.contingency(labels, found)
    variance = module.jackknife_variance(counts, module.normalised_mutual_information)
    assert variance == pytest.approx(expected)
    np.testing.assert_array_equal(counts, module.contingency(labels, found))


def test_noise_counts_as_a_cluster_and_is_reported():
    task = blobs(spread=0.05, clips=400)
    rows = task.splits[0].test[:20]
    task.embeddings[rows] = np.random.default_rng(1).normal(scale=30.0, size=(20, 16))
    result = cluster(task, components=None)
    assert result.table["HDBSCAN noise"] == pytest.approx(20 / 160, abs=0.02)
    assert result.table["HDBSCAN NMI"] < 0.99


def test_test_clips_only_unless_all_are_asked_for():
    task = blobs(spread=0.05, clips=400)
    split = task.splits[0]
    rows = np.concatenate([split.train, split.validation])
    task.embeddings[rows] = np.random.default_rng(1).normal(size=(len(rows), 16))
    assert cluster(task).mean > 0.95
    everything = cluster(task, clips="all")
    assert everything.mean < 0.7
    assert set(everything.per_fold) == {"all clips"}


def test_labels_that_cannot_be_compared_are_refused():
    with pytest.raises(DataError, match="several labels per clip"):
        cluster(several())
    task = blobs()
    with pytest.raises(DataError, match="are numbers"):
        cluster(replace(task, labels=task.labels.astype(float)))
    with pytest.raises(DataError, match="one class"):
        cluster(replace(task, labels=np.zeros_like(task.labels)))


class Classifier:
    """Puts a clip in the class its first sample tells, one of two patches in the next one, and keeps what it heard."""

    sample_rate = 16000

    def __init__(self, classes=6, *, silent=False):
        self.classes, self.silent, self.heard = classes, silent, []

    def embed_clip(self, waveform, lengths=None):
        raise AssertionError("not asked for")

    embed_frames = embed_clip

    def assign(self, waveform, lengths=None):
        self.heard += waveform[:, 0].tolist()
        if self.silent:
            return {}
        own = waveform[:, 0].long()
        patches = torch.stack([own, (own + 1) % self.classes, torch.full_like(own, -1)], dim=1)[:, :, None]
        return {"dino": Assigned(torch.eye(self.classes)[own], patches)}


def asked(task, encoder, told, **options):
    read = lambda row: np.array([told[row], 0.0], dtype=np.float32)  # noqa: E731
    return cluster(replace(task, encoder=encoder, read=read), **options)


def test_classes_of_the_pretext_task_are_compared_with_the_labels():
    task = blobs(clips=200, splits=2)
    table = asked(task, Classifier(), task.labels).table
    clips = {name.removeprefix("dino "): value for name, value in table.items() if name.startswith("dino ")}
    assert clips["NMI"] == clips["ARI"] == clips["purity"] == pytest.approx(1.0)
    assert clips["classes"] == 4
    # Patches of four labels stand half in their own and half in the next of five classes.
    counts = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 1]])
    rows, columns = np.nonzero(counts)
    assert clips["patches classes"] == 5
    assert clips["patches NMI"] == pytest.approx(normalized_mutual_info_score(rows, columns), abs=0.03)
    assert clips["patches purity"] == pytest.approx(5 / 8, abs=0.05)
    assert not any("no rows of assignments" in note for note in asked(task, Classifier(), task.labels).notes)


def test_classes_that_know_nothing_of_the_labels():
    task = blobs(clips=2000)
    table = asked(task, Classifier(), np.random.default_rng(0).integers(0, 6, 2000)).table
    assert table["dino NMI"] < 0.02
    assert abs(table["dino ARI"]) < 0.02


def test_only_clips_that_are_looked_at_are_asked_about_each_once():
    task = blobs(clips=200, splits=2)
    rows = np.unique(np.concatenate([split.test for split in task.splits]))
    encoder = Classifier(classes=200)
    asked(task, encoder, np.arange(200))
    assert encoder.heard == rows.tolist()
    encoder = Classifier(classes=200)
    asked(task, encoder, np.arange(200), clips="all")
    assert encoder.heard == list(range(200))


def test_encoders_without_classes_have_no_rows_and_a_note_says_so():
    task = blobs(clips=200)
    encoder = Classifier(silent=True)
    for result in (asked(task, encoder, task.labels), cluster(task)):
        assert not any(name.startswith("dino") for name in result.table)
        assert sum("no rows of assignments" in note for note in result.notes) == 1
    assert len(encoder.heard) == 32  # one batch tells
    left_out = asked(task, Classifier(), task.labels, assignments=False)
    assert not any(name.startswith("dino") for name in left_out.table)
    assert left_out.notes == ()


@pytest.mark.parametrize("options", [{"clips": "train"}, {"starts": 0}, {"min_cluster": 1}, {"k": 3}])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValidationError):
        ClustersOptions(**options)

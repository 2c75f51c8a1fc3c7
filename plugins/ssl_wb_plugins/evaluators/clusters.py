"""Clusters: whether the embeddings form clusters that agree with the classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.api import (
    AssigningEncoder,
    DataError,
    Evaluator,
    Field,
    PluginOptions,
    ProbeTask,
    Result,
    Split,
    fit_scaler,
    hookimpl,
    pad_batches,
    read_waveforms,
    require_labels,
    settings_of,
    unfit_labels,
)

Floats = NDArray[np.float64]

#: What it asks of labels.
NEEDS = "clusters are compared with one class per clip"


class ClustersOptions(PluginOptions):
    """Options of the cluster evaluation."""

    clips: Literal["test", "all"] = Field(
        "test", description="Cluster the test clips of every split, or all clips of the task at once."
    )
    starts: int = Field(10, ge=1, description="Starts of k-means; the one with the least inertia is kept.")
    min_cluster: int = Field(5, ge=2, description="Fewest clips of a cluster of HDBSCAN.")
    components: int | None = Field(
        50,
        ge=1,
        description="Principal components of the standardised embeddings that are clustered; all dimensions without "
        "a number. In hundreds of dimensions densities are too much alike for HDBSCAN.",
    )
    standardise: bool = Field(
        True, description="Scale every dimension to mean 0 and variance 1 of the training clips (of all, if all)."
    )
    assignments: bool = Field(
        True,
        description="Compare the classes of the encoder's own pretext task with the labels too, where it has any (an "
        "objective 'dino'); the clips are decoded once more for that.",
    )


def contingency(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> Floats:
    """Count clips per class and cluster, ``[classes, clusters]``, of labels and clusters ``[n]``."""
    from sklearn.metrics.cluster import contingency_matrix  # over a second, and only a probe needs it

    return np.asarray(contingency_matrix(labels, clusters, dtype=np.float64))


def _entropy(counts: Floats) -> float:
    """Entropy in nats of counts of any shape."""
    probabilities = counts[counts > 0] / counts.sum()
    return float(-(probabilities * np.log(probabilities)).sum())


def normalised_mutual_information(counts: Floats) -> float:
    """Mutual information over the mean of both entropies; 1 where both have one group only (scikit-learn's NMI)."""
    classes, clusters = _entropy(counts.sum(axis=1)), _entropy(counts.sum(axis=0))
    if classes + clusters <= 0:
        return 1.0
    return max(0.0, 2 * (classes + clusters - _entropy(counts)) / (classes + clusters))


def adjusted_rand_index(counts: Floats) -> float:
    """Fraction of pairs of clips on which classes and clusters agree, adjusted for chance (Hubert, Arabie 1985)."""

    def pairs(values: Floats) -> float:
        return float((values * (values - 1) / 2).sum())

    together, total = pairs(counts), pairs(np.array([counts.sum()]))
    classes, clusters = pairs(counts.sum(axis=1)), pairs(counts.sum(axis=0))
    expected = classes * clusters / total if total else 0.0
    most = (classes + clusters) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def purity(counts: Floats) -> float:
    """Fraction of clips that belong to the largest class of their cluster."""
    return float(counts.max(axis=0).sum() / counts.sum())


FIGURES: dict[str, Callable[[Floats], float]] = {
    "NMI": normalised_mutual_information,
    "ARI": adjusted_rand_index,
    "purity": purity,
}


def jackknife_variance(counts: Floats, figure: Callable[[Floats], float]) -> float:
    """Return the jackknife variance of a figure: one clip is left out at a time.

    Clips of one cell of the contingency table give the same value, so each cell is computed once.
    """
    rows, columns = np.nonzero(counts)
    times = counts[rows, columns]
    values = np.empty(len(rows))
    for cell, (row, column) in enumerate(zip(rows, columns, strict=True)):
        counts[row, column] -= 1
        values[cell] = figure(counts)
        counts[row, column] += 1
    clips = times.sum()
    centre = (times * values).sum() / clips
    return float((clips - 1) / clips * (times * (values - centre) ** 2).sum())


@dataclass(frozen=True)
class _Assigned:
    """An objective's classes of the clips that are evaluated.

    Attributes:
        clips: int64 ``[clips]``, the class of each clip of the task; -1 for clips that are not evaluated.
        patches: float ``[clips, K]``, how many patches of each clip are in each class.
    """

    clips: NDArray[np.int64]
    patches: Floats


@dataclass(frozen=True)
class _Found:
    """Clusters of one split.

    Attributes:
        kmeans: contingency table ``[classes, clusters]`` of k-means, one per seed.
        hdbscan: that of HDBSCAN; noise is one more cluster.
        groups: clusters of HDBSCAN, without noise.
        noise: fraction of clips that HDBSCAN calls noise.
    """

    kmeans: list[Floats]
    hdbscan: Floats
    groups: int
    noise: float


class Clusters(Evaluator):
    """Clusters embeddings by k-means (k = classes) and HDBSCAN and compares the clusters with the labels.

    NMI, adjusted Rand index and purity of each; the headline is the NMI of k-means, mean over seeds. Labels are used
    only to count the classes and to compare. HDBSCAN chooses its number of clusters; its noise counts as one more
    cluster, so that leaving hard clips out gains nothing. Purity grows with the number of clusters: compare it at equal
    k only. The interval is a jackknife over clips with fixed clusters (repeated clips of a bootstrap would raise the
    NMI), so it does not cover how clusters depend on the clips.

    If the encoder's run has an objective with classes of its own (the DINO head's prototypes), the table compares them
    with the labels too; nothing is fitted for that. A clip is in the class of largest probability, mean over its
    patches; rows with "patches" count each patch in its own class, under the clip's label. They are the teacher's
    classes, centred as in training, of all patches of the clip. "classes" counts those in use.
    """

    name = "clusters"
    reference = "Vinh, Epps, Bailey, JMLR 11, 2010 (NMI, ARI); Campello et al. 2013 (HDBSCAN)"
    Options = ClustersOptions
    options: ClustersOptions

    def fits(self, task: ProbeTask) -> str | None:
        """Return why the labels cannot be compared with clusters; None where they can."""
        return unfit_labels(task, ["single"], NEEDS)

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Cluster ``task.embeddings`` ``[clips, D]`` of the test clips of every split, or of all clips."""
        require_labels(
            task, kinds=["single"], needs=NEEDS, hint="Use retrieval for several labels, linear or mlp for either."
        )
        parts = {split.name: self._split(task, split, seeds) for split in self._splits(task)}
        assigned = self._assigned(task)
        values = np.array(
            [[normalised_mutual_information(counts) for counts in part.kmeans] for part in parts.values()]
        )  # [splits, seeds]
        table = _table(list(parts.values()))
        mean = table.pop("k-means NMI")
        for label, one in assigned.items():
            table |= _assignment_table(label, one, task.labels, [split.test for split in self._splits(task)])
        notes = list(task.notes)
        if self.options.assignments and not assigned:
            notes.append(
                "an encoder whose pretext task has no classes (objective 'dino' has) has no rows of assignments"
            )
        # Splits have different clips, so their variances add up; seeds share clips, so theirs are averaged.
        variances = [
            np.mean([jackknife_variance(counts, normalised_mutual_information) for counts in part.kmeans])
            for part in parts.values()
        ]
        half = 1.96 * float(np.sqrt(np.sum(variances))) / len(parts)
        return Result(
            task=task.name,
            evaluator=self.name,
            metric="k-means NMI",
            mean=mean,
            interval=(max(0.0, mean - half), min(1.0, mean + half)),
            per_fold={name: float(value) for name, value in zip(parts, values.mean(axis=1), strict=True)},
            per_seed=[float(value) for value in values.mean(axis=0)],
            settings=settings_of(self, seeds),
            notes=tuple(notes),
            table=table,
        )

    def _splits(self, task: ProbeTask) -> Sequence[Split]:
        if self.options.clips == "test":
            return task.splits
        rows = np.arange(len(task.labels))
        return [Split("all clips", rows, rows[:0], rows)]

    def _assigned(self, task: ProbeTask) -> dict[str, _Assigned]:
        """Return the pretext task's classes of the clips that are evaluated, by objective."""
        if not self.options.assignments or task.read is None or not isinstance(task.encoder, AssigningEncoder):
            return {}
        rows = np.unique(np.concatenate([split.test for split in self._splits(task)]))
        found: dict[str, _Assigned] = {}
        done = 0
        for waveform, lengths in pad_batches(read_waveforms(task, rows)):
            assigned = task.encoder.assign(waveform, lengths)
            if not assigned:
                break  # no objective has classes, whatever the clip
            batch = rows[done : done + len(lengths)]
            done += len(batch)
            for label, one in assigned.items():
                classes = one.clips.shape[1]
                if label not in found:
                    none = np.full(len(task.labels), -1, dtype=np.int64)
                    found[label] = _Assigned(none, np.zeros((len(task.labels), classes)))
                found[label].clips[batch] = one.clips.argmax(dim=1).cpu().numpy()
                for row, patches in zip(batch, one.patches.cpu(), strict=True):  # [T, F]
                    found[label].patches[row] = torch.bincount(patches[patches >= 0], minlength=classes).numpy()
        return found

    def _split(self, task: ProbeTask, split: Split, seeds: Sequence[int]) -> _Found:
        """Cluster the test clips of one split, scaled by its training clips."""
        from sklearn.cluster import HDBSCAN, KMeans

        labels = task.labels[split.test]
        groups = len(np.unique(labels))
        if groups < 2:
            raise DataError(
                f"task {task.name!r}, {split.name}: the test clips are of one class",
                hint="Use clips = 'all', or a split whose test part holds several classes.",
            )
        inputs = self._inputs(task, split)  # [n, d]
        kmeans = [
            KMeans(groups, n_init=self.options.starts, random_state=int(seed)).fit_predict(inputs) for seed in seeds
        ]
        if len(inputs) <= self.options.min_cluster:
            dense = np.full(len(inputs), -1)  # too few clips for one cluster: all noise
        else:
            dense = HDBSCAN(min_cluster_size=self.options.min_cluster, copy=True).fit_predict(inputs)
        return _Found(
            [contingency(labels, found) for found in kmeans],
            contingency(labels, dense),
            len(np.unique(dense[dense >= 0])),
            float((dense < 0).mean()),
        )

    def _inputs(self, task: ProbeTask, split: Split) -> Floats:
        """Scale the test clips and reduce their dimensions, both fitted on the training clips, ``[n, d]``."""
        from sklearn.decomposition import PCA

        scaled = fit_scaler(task, split.train, self.options.standardise)
        train, test = scaled(split.train), scaled(split.test)  # [m, D], [n, D]
        if self.options.components is None or self.options.components >= min(train.shape):
            return test
        return np.asarray(PCA(self.options.components, random_state=0).fit(train).transform(test))


def _table(parts: Sequence[_Found]) -> dict[str, float]:
    """Return every figure of both algorithms, mean over splits and seeds."""
    table = {}
    for name, figure in FIGURES.items():
        table[f"k-means {name}"] = float(np.mean([[figure(counts) for counts in part.kmeans] for part in parts]))
    for name, figure in FIGURES.items():
        table[f"HDBSCAN {name}"] = float(np.mean([figure(part.hdbscan) for part in parts]))
    table["HDBSCAN clusters"] = float(np.mean([part.groups for part in parts]))
    table["HDBSCAN noise"] = float(np.mean([part.noise for part in parts]))
    return table


def _assignment_table(
    label: str, assigned: _Assigned, labels: NDArray[np.int64], parts: Sequence[NDArray[np.int64]]
) -> dict[str, float]:
    """Return every figure of an objective's own classes, of clips and of patches, mean over parts of the clips."""
    counts_of_clips = [contingency(labels[rows], assigned.clips[rows]) for rows in parts]
    patches = []
    for rows in parts:
        of_class = [rows[labels[rows] == one] for one in np.unique(labels[rows])]
        patches.append(np.stack([assigned.patches[clips].sum(axis=0) for clips in of_class]))  # [labels, K]
    table = {}
    for name, counts in ((label, counts_of_clips), (f"{label} patches", patches)):
        for kind, figure in FIGURES.items():
            table[f"{name} {kind}"] = float(np.mean([figure(one) for one in counts]))
        table[f"{name} classes"] = float(np.mean([(one.sum(axis=0) > 0).sum() for one in counts]))
    return table


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register the cluster evaluation."""
    return [Clusters]

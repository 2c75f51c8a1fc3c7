"""Nearest class means of clips, frames and layers, and a probe that listens to the clips itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.api import (
    Assigned,
    AssigningEncoder,
    AudioError,
    DataError,
    Encoder,
    Evaluator,
    Field,
    Level,
    MaskingEncoder,
    PluginOptions,
    ProbeTask,
    Result,
    Split,
    SplitScores,
    WorkbenchError,
    average_precision,
    bootstrap,
    choose_metric,
    correct,
    hookimpl,
    interval_of,
    kind_of,
    metric_of,
    score,
    summarise,
)

API_VERSION = 1


class MeansOptions(PluginOptions):
    """Options of the class means."""

    resamples: int = Field(200, ge=10, description="Bootstrap resamples.")


class ClassMeans(Evaluator):
    """Gives a clip the class whose mean of training clips is nearest."""

    name = "api1-class-means"
    reference = "Rocchio 1971"
    level: Level = "clip"
    Options = MeansOptions
    options: MeansOptions

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe the task on every split."""
        if task.multi_label or task.regression or kind_of(task.labels) != "single":
            raise DataError(f"task {task.name!r}: {self.name} needs one class per clip", hint="Take another evaluator.")
        rows = self.rows(task)
        found, validation = [], {}
        for split in task.splits:
            means = self._means(rows, task, split)
            validation[split.name] = score(task.labels[split.validation], self._near(rows[split.validation], means))
            if split.held_out:
                both = np.concatenate([split.train, split.validation])
                means = self._means(rows, task, Split(split.name, both, split.validation, split.test))
            scores = self._near(rows[split.test], means)  # [n, classes]
            found.append(SplitScores(split=split, scores=np.stack([scores for _ in seeds])))
        return summarise(
            task,
            self.name,
            found,
            settings={**self.options.model_dump(), "seeds": list(seeds), "metric": metric_of(task.labels)},
            resamples=self.options.resamples,
            table={"validation": float(np.mean(list(validation.values())))},
            detail={"validation": validation, "level": self.level},
        )

    def rows(self, task: ProbeTask) -> NDArray[np.float64]:
        """Return one row ``[clips, D]`` for each clip."""
        if self.level == "tokens":
            assert task.frames is not None
            total = task.embeddings.sum(axis=1, dtype=np.float64)  # frames past the end are 0
            return total / task.frames[:, None]
        if self.level == "layers":
            return np.asarray(task.embeddings[:].reshape(len(task.labels), -1), dtype=np.float64)
        return np.asarray(task.embeddings[:], dtype=np.float64)

    def _means(self, rows: NDArray[np.float64], task: ProbeTask, split: Split) -> NDArray[np.float64]:
        labels = task.labels[split.train]
        return np.stack([rows[split.train][labels == number].mean(axis=0) for number in range(len(task.classes))])

    def _near(self, rows: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
        return -((rows[:, None] - means[None]) ** 2).sum(axis=-1)


class LayerMeans(ClassMeans):
    """Gives a clip the class whose mean over all layers is nearest."""

    name = "api1-layer-means"
    level = "layers"


class FrameMeans(ClassMeans):
    """Gives a clip the class whose mean of frames is nearest, and builds its result itself."""

    name = "api1-frame-means"
    level = "tokens"

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe the task on every split."""
        rows = self.rows(task)
        metric = choose_metric(task.metric, task.labels)
        per_clip = np.full(len(task.labels), np.nan, dtype=np.float32)
        per_fold, draws, parts, precision = {}, [], [], []
        for number, split in enumerate(task.splits):
            scores = self._near(rows[split.test], self._means(rows, task, split))  # [n, classes]
            labels = task.labels[split.test]
            right = correct(labels, scores)  # [n]
            per_clip[split.test] = right
            per_fold[split.name] = float(score(labels, scores, metric.name))
            draws.append(
                bootstrap(
                    lambda weights, right=right: weights @ right / weights.sum(axis=1),
                    len(split.test),
                    self.options.resamples,
                    seed=number,
                )
            )
            precision.append(float(average_precision((labels == 0).astype(int), scores[:, 0])[0]))
            parts.append(SplitScores(split, scores[None]))
        return Result(
            task=task.name,
            evaluator=self.name,
            metric=metric.name,
            mean=float(np.mean(list(per_fold.values()))),
            interval=interval_of(np.mean(draws, axis=0)),
            per_fold=per_fold,
            per_seed=[float(np.mean(list(per_fold.values()))) for _ in seeds],
            settings=self.options.model_dump(),
            notes=(*task.notes, f"{len(task.classes)} classes"),
            per_clip=per_clip,
            table={"precision of the first class": float(np.mean(precision))},
            detail={"frames": int(np.sum(task.frames))},
            percent=True,
            higher=True,
            scores=tuple(parts),
            labels=task.labels,
        )


class Listener(Evaluator):
    """Measures how far clips move when patches are hidden, and how sure their assignments are."""

    name = "api1-listener"
    level = "audio"

    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Listen to the first test clips of the first split."""
        if task.encoder is None or task.read is None:
            raise WorkbenchError(f"task {task.name!r}: no encoder at hand")
        values = [self._moved(task.encoder, task, seed) for seed in seeds]
        return Result(
            task.name,
            self.name,
            "distance",
            float(np.mean(values)),
            (float("nan"), float("nan")),
            {task.splits[0].name: float(np.mean(values))},
            values,
            table=self._table(task),
            percent=False,
            higher=False,
        )

    def _waveforms(self, task: ProbeTask) -> torch.Tensor:
        assert task.read is not None
        assert task.encoder is not None
        samples = task.encoder.sample_rate
        try:
            clips = [task.read(int(index))[:samples] for index in task.splits[0].test[:4]]
        except AudioError as error:
            raise DataError(error.message, hint=error.hint) from error
        return torch.from_numpy(np.stack(clips))  # [4, S]

    def _moved(self, encoder: Encoder, task: ProbeTask, seed: int) -> float:
        waveforms = self._waveforms(task)
        if not isinstance(encoder, MaskingEncoder):
            return float(encoder.embed_clip(waveforms).std())
        seeds = [seed + number for number in range(4)]
        whole, part = encoder.embed_masked(waveforms, ratios=[0.0, 0.5], seeds=seeds)  # [B, D] each
        return float((part - whole).norm(dim=1).mean() / whole.norm(dim=1).mean())

    def _table(self, task: ProbeTask) -> dict[str, float]:
        assert task.encoder is not None
        waveforms = self._waveforms(task)
        table = {"frames": float(task.encoder.embed_frames(waveforms).shape[1])}
        if isinstance(task.encoder, AssigningEncoder):
            for name, assigned in task.encoder.assign(waveforms).items():
                assert isinstance(assigned, Assigned)
                assert int(assigned.patches.max()) < assigned.clips.shape[1]
                table[f"{name} likeliest"] = float(assigned.clips.max(dim=1).values.mean())
        return table


@hookimpl
def ssl_wb_evaluators() -> list[type[Evaluator]]:
    """Register all four."""
    return [ClassMeans, LayerMeans, FrameMeans, Listener]

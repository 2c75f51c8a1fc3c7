"""How the frames of a clip become one vector, alike for every encoder and baseline of a comparison."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.errors import UsageError
from ssl_wb.plugin.evaluator import POOLINGS, Evaluator, Level, ProbeTask, Result, SplitScores
from ssl_wb.plugin.result_checks import probe
from ssl_wb.scoring.summary import summarise

__all__ = ["AUTO", "MEAN", "candidates", "check_pool", "pool_clip", "pool_clips", "pools_of", "probe_pooled"]

#: The protocol of the papers: the mean over time.
MEAN = "mean"
#: Validation chooses among the candidates.
AUTO = "auto"
CANDIDATES = (MEAN, "mean+std", "segments:4", "segments:8")


def check_pool(pool: str) -> str:
    """Return a pooling as it is, if it is one: ``mean``, ``mean+std``, ``segments:N`` or ``auto``.

    Raises:
        UsageError: it is none.
    """
    if re.fullmatch(POOLINGS, pool):
        return pool
    raise UsageError(
        f"--pool {pool}: no such pooling",
        hint="It is mean, mean+std, segments:N (N from 1 to 64), or auto: chosen on validation clips.",
    )


def candidates(pool: str) -> tuple[str, ...]:
    """Return the poolings to compute: those that ``auto`` chooses among, or the one that is named."""
    return CANDIDATES if pool == AUTO else (pool,)


def pools_of(pool: str, level: Level) -> tuple[str, ...]:
    """Return the poolings to compute of frames; none where the encoder's own embedding of a clip is read."""
    return candidates(pool) if level == "clip" and pool != MEAN else ()


def pool_clip(frames: Tensor, pool: str) -> Tensor:
    """Pool the frames of one clip, ``[T, D]``.

    Args:
        frames: the clip's own frames, without padding.
        pool: ``mean``: ``[D]``; ``mean+std``: means, then standard deviations, ``[2 * D]``; ``segments:N``: the means
            of N equal segments, ``[N * D]``. A clip of fewer than N frames has segments of one frame, some of which
            repeat.
    """
    if pool == MEAN:
        return frames.mean(dim=0)
    if pool == "mean+std":
        return torch.cat([frames.mean(dim=0), frames.std(dim=0, correction=0)])
    count = int(pool.partition(":")[2])
    edges = [round(index * len(frames) / count) for index in range(count + 1)]
    parts = []
    for first, stop in pairwise(edges):
        first = min(first, len(frames) - 1)
        parts.append(frames[first : max(stop, first + 1)].mean(dim=0))
    return torch.cat(parts)


def pool_clips(frames: Tensor, counts: Sequence[int], pools: Sequence[str]) -> Tensor:
    """Pool clips by several poolings at once, one after the other in the feature axis.

    Args:
        frames: ``[B, T, D]``.
        counts: frames of each clip.
        pools: as in :func:`pool_clip`.

    Returns:
        ``[B, D']``, the poolings' widths added up.
    """
    rows = [
        torch.cat([pool_clip(clip[:count], pool) for pool in pools])
        for clip, count in zip(frames.float(), counts, strict=True)
    ]
    return torch.stack(rows)


def _widths(pools: Sequence[str], total: int) -> list[int]:
    """Return the width of each pooling's part of ``total`` values."""
    shares = [2 if pool == "mean+std" else int(pool.partition(":")[2] or 1) for pool in pools]
    return [total // sum(shares) * share for share in shares]


def parts_of(embeddings: NDArray[np.float32], pools: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Take what :func:`pool_clips` joined, ``[clips, D']``, apart: ``[clips, D]`` by pooling."""
    ends = np.cumsum(_widths(pools, embeddings.shape[1])).tolist()
    return {pool: embeddings[:, first:stop] for pool, first, stop in zip(pools, [0, *ends[:-1]], ends, strict=True)}


def probe_pooled(
    evaluator: Evaluator,
    task: ProbeTask,
    parts: Mapping[str, NDArray[np.float32]],
    seeds: Sequence[int],
) -> tuple[Result, str]:
    """Probe the poolings of one encoder and report the one that validation chooses, split by split.

    A split's pooling is the one with the best validation score of the first seed; of equal ones the first, which is the
    smallest. The choice for a split reads the validation clips of that split alone, never its test clips.

    Args:
        evaluator: of level ``clip``.
        task: the task; its embeddings are replaced.
        parts: embeddings ``[clips, D]`` by pooling; one alone is probed without a choice.
        seeds: one repetition each.

    Returns:
        The result, with the pooling of each split in ``settings["pool"]``, and the pooling in words for a table.
    """
    results = {pool: probe(evaluator, replace(task, embeddings=part), seeds) for pool, part in parts.items()}
    first, *others = results
    if not others:
        return _noted(results[first], first), first
    validation = {pool: _validation(result) for pool, result in results.items()}
    if any(scores is None for scores in validation.values()):
        note = f"{evaluator.name} has no validation score to choose a pooling by: {first}"
        return _noted(results[first], first, note), first
    chosen: dict[str, str] = {}
    found: list[SplitScores] = []
    for number, split in enumerate(task.splits):
        best = max(results, key=lambda pool: (validation[pool] or {})[split.name])  # the first of equals
        chosen[split.name] = best
        found.append(results[best].scores[number])
    settings = dict(results[first].settings)
    settings["chosen"] = {name: results[pool].settings["chosen"][name] for name, pool in chosen.items()}
    settings["validation by pool"] = validation
    merged = summarise(task, evaluator.name, found, settings=settings, resamples=int(settings.get("resamples", 1000)))
    words = ", ".join(pool for pool, _ in Counter(chosen.values()).most_common())
    return _noted(merged, chosen), f"auto: {words}"


def _noted(result: Result, pool: str | dict[str, str], *notes: str) -> Result:
    """Return a result with its pooling among the settings."""
    return replace(result, settings={**result.settings, "pool": pool}, notes=(*result.notes, *notes))


def _validation(result: Result) -> dict[str, float] | None:
    """Return the validation score of each split; None where the probe keeps no such score, or no score per clip."""
    chosen: dict[str, Any] = result.settings.get("chosen") or {}
    scores = {name: one.get("validation") for name, one in chosen.items() if isinstance(one, dict)}
    known = {name: float(score) for name, score in scores.items() if isinstance(score, (int, float))}
    complete = len(result.scores) == len(known) == len(result.per_fold) and len(known) > 0
    return known if complete else None

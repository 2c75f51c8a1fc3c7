"""Who is probed on what: every encoder on every task by every evaluator, each embedding computed once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.errors import UsageError
from ssl_wb.evaluation.checkpoint_leakage import with_choice_noted
from ssl_wb.evaluation.embedding_cache import EmbeddingCache
from ssl_wb.evaluation.embeddings import embed_task, read_clip, seconds_of, token_counts
from ssl_wb.evaluation.encoders import compared, encoder_names
from ssl_wb.evaluation.results import Role, Row, Seconds
from ssl_wb.plugin.evaluator import Encoder, Evaluator, Level, ProbeTask
from ssl_wb.tasks.task import LoadedTask

__all__ = ["Role", "Row", "RunnerProgress", "Seconds", "evaluate_run", "evaluate_runs", "probe"]

log = logging.getLogger("ssl_wb")

#: Called with what is being done, the clips done and the clips there are.
RunnerProgress = Callable[[str, int, int], None]


def probe(
    encoders: Mapping[str, Encoder],
    tasks: Sequence[LoadedTask],
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int] = (0, 1, 2),
    progress: RunnerProgress | None = None,
    roles: Mapping[str, Role] | None = None,
    folder: Path | None = None,
) -> list[Row]:
    """Probe every encoder on every task by every evaluator; each level of a task is embedded once per encoder.

    Args:
        encoders: by name in tables.
        tasks: the tasks; names differ.
        evaluators: by name.
        seeds: one repetition each.
        progress: told while clips are embedded, and before each probe.
        roles: of encoders that are not the encoder in question.
        folder: where embeddings are kept from one call to the next; nowhere when None.

    Returns:
        One row per encoder, task and evaluator, in that order. An encoder without layers has none of the evaluators
        that want them.

    Raises:
        UsageError: nothing to do, or two tasks of one name.
        AudioError: a clip cannot be read.
        DataError: an encoder gives embeddings that are not finite.
    """
    _check(encoders, tasks, evaluators, seeds)
    rows: list[Row] = []
    for name, encoder in encoders.items():
        kept = EmbeddingCache(folder, encoder)
        role = (roles or {}).get(name, "encoder")
        fitting = [(kind, one) for kind, one in evaluators if _fits(encoder, one.level)]
        if role == "encoder" and (left := [kind for kind, one in evaluators if not _fits(encoder, one.level)]):
            log.warning("%s gives embeddings only, so it has no row of %s", name, ", ".join(left))
        for task in tasks:
            rows += _probe_task(name, role, encoder, task, fitting, seeds, progress or _silent, kept)
    return rows


def _silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def _fits(encoder: Encoder, level: Level) -> bool:
    """Whether an encoder has what an evaluator reads: plain statistics have neither layers nor weights."""
    needs = {"layers": "layers", "tokens": "embed_frames", "audio": "backbone"}
    return level not in needs or hasattr(encoder, needs[level])


def _probe_task(
    name: str,
    role: Role,
    encoder: Encoder,
    task: LoadedTask,
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int],
    progress: RunnerProgress,
    kept: EmbeddingCache,
) -> list[Row]:
    """Probe one encoder on one task; an embedding is held in memory no longer than its level is probed."""
    label = f"{name} on {task.name}"
    found: dict[str, Row] = {}
    for level in dict.fromkeys(evaluator.level for _, evaluator in evaluators):
        embedded, seconds = _embedded(encoder, task, level, partial(progress, f"embedding: {label}"), kept)
        for kind, evaluator in evaluators:
            if evaluator.level != level:
                continue
            progress(f"{kind}: {label}", len(task.clips), len(task.clips))
            begin = time.perf_counter()
            result = evaluator(embedded, seeds)
            cost = Seconds(seconds.audio, seconds.embedding, time.perf_counter() - begin, seconds.cached)
            chance = task.chance if result.metric == task.measure.name else float("nan")
            found[kind] = Row(name, task.name, kind, result, role, chance, cost, task.domain)
    return [found[kind] for kind, _ in evaluators]  # in the order asked for


def _embedded(
    encoder: Encoder, task: LoadedTask, level: Level, progress: Callable[[int, int], None], kept: EmbeddingCache
) -> tuple[ProbeTask, Seconds]:
    """Embed a task's clips, or find them embedded."""

    def compute() -> NDArray[np.float32]:
        return embed_task(encoder, task, level=level, progress=progress)

    begin = time.perf_counter()
    if level == "audio":
        embeddings, cached = compute(), False
    else:
        embeddings, cached = kept.get(task.clips, level, compute)
    took = time.perf_counter() - begin
    audio = float("nan") if cached or level == "audio" else seconds_of(task)
    frames = token_counts(embeddings) if level == "tokens" else None
    return task.embedded(embeddings, encoder, frames, _reader(encoder, task)), Seconds(audio, took, cached=cached)


def _reader(encoder: Encoder, task: LoadedTask) -> Callable[[int], NDArray[np.float32]]:
    """Return what decodes a clip of the task by its index."""

    def read(index: int) -> NDArray[np.float32]:
        return read_clip(task.clips[index], encoder.sample_rate)

    return read


def _check(
    encoders: Mapping[str, Encoder],
    tasks: Sequence[LoadedTask],
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int],
) -> None:
    """Refuse what cannot be probed before hours go into embedding."""
    for what, given in (("encoder", encoders), ("task", tasks), ("evaluator", evaluators), ("seed", seeds)):
        if not given:
            raise UsageError(f"no {what} to probe with", hint=f"Name at least one {what}.")
    named = {"tasks": [task.name for task in tasks], "evaluators": [name for name, _ in evaluators]}
    for what, names in named.items():
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UsageError(
                f"two {what} are named {twice[0]!r}",
                hint="Names tell results apart; give each another, once.",
            )


def evaluate_run(
    run: str | Path,
    tasks: Sequence[LoadedTask],
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int] = (0, 1, 2),
    **options: Any,
) -> list[Row]:
    """Probe the encoder of one run; as :func:`evaluate_runs`."""
    return evaluate_runs([run], tasks, evaluators, seeds, **options)


def evaluate_runs(
    runs: Sequence[str | Path],
    tasks: Sequence[LoadedTask],
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int] = (0, 1, 2),
    *,
    with_untrained: bool = True,
    with_baselines: bool = True,
    wanted: str | None = None,
    checkpoint: str = "last",
    device: str | torch.device = "cpu",
    keep: bool = True,
    progress: RunnerProgress | None = None,
) -> list[Row]:
    """Probe the encoders of runs and, for comparison, the same untrained and plain log-mel statistics.

    Embeddings are kept in the folder ``embeddings`` of each run, those of other encoders in the user's cache.

    Args:
        runs: the run folders; a row is named after its folder, and its parents as far as names would be the same.
            Encoders from elsewhere, too, as :mod:`ssl_wb.encoder.external` has them.
        tasks: the tasks.
        evaluators: by name.
        seeds: one repetition each.
        with_untrained: whether the weights a run started from are probed too; once where several started from the same.
        with_baselines: whether log-mel statistics are probed too, once for all runs.
        wanted: name of a row that is probed in any case, to compare the others with.
        checkpoint: ``last`` or ``best``; results of the latter note where its choice saw test clips.
        device: where encoders compute.
        keep: whether embeddings are kept and used.
        progress: as in :func:`probe`.

    Raises:
        UsageError: no run, or one given twice; an encoder from elsewhere cannot be loaded.
        RunFolderError: a folder is no run, or has no checkpoint yet.
    """
    rows = []
    names = encoder_names(runs)
    for name, encoder, role, folder in compared(
        names, checkpoint, device, untrained=with_untrained, plain=with_baselines, wanted=wanted
    ):
        source = names[name] if role == "encoder" and checkpoint == "best" else None
        noted = with_choice_noted(source, name, tasks) if isinstance(source, Path) else tasks
        rows += probe({name: encoder}, noted, evaluators, seeds, progress, {name: role}, folder if keep else None)
    return rows

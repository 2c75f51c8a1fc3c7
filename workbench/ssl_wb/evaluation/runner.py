"""Evaluation of every encoder on every task by every evaluator, each embedding computed once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ssl_wb.errors import DataError, UsageError, WorkbenchError
from ssl_wb.evaluation.checkpoint_leakage import note_leakage
from ssl_wb.evaluation.embedding_cache import EmbeddingCache
from ssl_wb.evaluation.embeddings import Embedded, embed_task, frame_counts, read_clip, total_seconds
from ssl_wb.evaluation.encoders import encoder_names, encoders_to_compare
from ssl_wb.evaluation.pooling import MEAN, parts_of, pools_of, probe_pooled
from ssl_wb.evaluation.results import Role, Row, Seconds
from ssl_wb.plugin.evaluator import Encoder, Evaluator, Level, ProbeTask, Result, level_of
from ssl_wb.plugin.fault import described
from ssl_wb.plugin.result_checks import probe as probe_checked
from ssl_wb.plugin.result_checks import unfit_reason
from ssl_wb.tasks.task import LoadedTask

__all__ = ["Role", "Row", "RunnerProgress", "Seconds", "evaluate_runs", "probe", "refuse_misfits"]

log = logging.getLogger("ssl_wb")

#: Called with a description of the current step, the clips done and all clips.
RunnerProgress = Callable[[str, int, int], None]


def probe(
    encoders: Mapping[str, Encoder],
    tasks: Sequence[LoadedTask],
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int] = (0, 1, 2),
    progress: RunnerProgress | None = None,
    roles: Mapping[str, Role] | None = None,
    folder: Path | None = None,
    failed: Callable[[str, Exception], None] | None = None,
    pool: str = MEAN,
) -> list[Row]:
    """Probe every encoder on every task by every evaluator; each level of a task is embedded once per encoder.

    Args:
        encoders: by name in tables.
        tasks: the tasks; names differ.
        evaluators: by name.
        seeds: one repetition each.
        progress: called while clips are embedded, and before each probe.
        roles: roles by name in tables; ``encoder`` unless given.
        folder: folder of cached embeddings; None for no cache.
        failed: called with what failed and its error; that row is then left out. Without it the error is raised.
        pool: how the frames of a clip become one vector, for evaluators of level ``clip``: ``mean``, ``mean+std``,
            ``segments:N``, or ``auto``, chosen on validation clips for each encoder, task and split.

    Returns:
        One row per encoder, task and evaluator, in that order. An encoder has no row of evaluators that need layers,
        frames or weights if it does not offer them.

    Raises:
        UsageError: nothing to do, or two tasks of one name.
        AudioError: a clip cannot be read.
        DataError: an encoder gives embeddings that are not finite.
    """
    _check(encoders, tasks, evaluators, seeds)
    rows: list[Row] = []
    for name, encoder in encoders.items():
        cache = EmbeddingCache(folder, encoder)
        role = (roles or {}).get(name, "encoder")
        offered = [(kind, one) for kind, one in evaluators if _offers(encoder, level_of(one))]
        if role == "encoder" and (missing := [kind for kind, one in evaluators if not _offers(encoder, level_of(one))]):
            log.warning("%s gives embeddings only, so it has no row of %s", name, ", ".join(missing))
        frames = pool == MEAN or hasattr(encoder, "embed_frames")
        if not frames:
            log.warning("%s gives no frames to pool: its rows are of its own embedding of clips", name)
        one = _Encoder(name, role, encoder, cache, pool if frames else MEAN)
        for task in tasks:
            rows += _probe_task(one, task, offered, seeds, progress or (lambda *_: None), failed or _raise)
    return rows


def refuse_misfits(
    tasks: Sequence[LoadedTask],
    evaluators: Sequence[tuple[str, Evaluator]],
    failed: Callable[[str, Exception], None] | None = None,
) -> None:
    """Tell which evaluators cannot do a task, which labels show before an encoder is loaded; their cells stay empty.

    Args:
        tasks: the tasks.
        evaluators: by name.
        failed: called with each pair and its reason.

    Raises:
        DataError: no evaluator can do any task: there is nothing to do.
    """
    found: list[tuple[str, DataError]] = []
    for task in tasks:
        for name, evaluator in evaluators:
            if reason := unfit_reason(evaluator, task.without_embeddings()):
                error = DataError(f"{name}: {task.name}: {reason}", hint="choose another evaluator, or another task")
                found.append((f"{name}: {task.name}", error))
    if found and len(found) == len(tasks) * len(evaluators):
        raise found[0][1]
    for what, error in found:
        if failed is not None:
            failed(what, error)


@dataclass(frozen=True)
class _Encoder:
    """An encoder, its name and role in tables, its kept embeddings, and how its frames are pooled."""

    name: str
    role: Role
    encoder: Encoder
    cache: EmbeddingCache
    pool: str

    def own_pool(self, level: Level) -> str | None:
        """Return the pooling of the encoder's own embedding of a clip; None at other levels."""
        return getattr(self.encoder, "pooling", MEAN) if level == "clip" else None


def _raise(what: str, error: Exception) -> None:
    """Raise an error where nobody takes it."""
    del what
    raise error


def _offers(encoder: Encoder, level: Level) -> bool:
    """Whether an encoder offers what an evaluator reads; log-mel statistics have neither layers nor weights."""
    needs = {"layers": "layers", "frames": "embed_frames", "audio": "backbone"}
    return level not in needs or hasattr(encoder, needs[level])


def _probe_task(
    one: _Encoder,
    task: LoadedTask,
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int],
    progress: RunnerProgress,
    failed: Callable[[str, Exception], None],
) -> list[Row]:
    """Probe one encoder on one task, level by level, so that memory holds the embeddings of one level at a time."""
    label = f"{one.name} on {task.name}"
    rows = _unfit_rows(one, task, evaluators, failed)
    asked = [(kind, evaluator) for kind, evaluator in evaluators if kind not in rows]
    for level in dict.fromkeys(level_of(evaluator) for _, evaluator in asked):
        try:
            embedded, seconds = _embedded(one, task, level, partial(progress, f"embedding: {label}"))
        except Exception as error:
            failed(label, error)
            continue
        for kind, evaluator in asked:
            if level_of(evaluator) != level:
                continue
            progress(f"{kind}: {label}", len(task.clips), len(task.clips))
            begin = time.perf_counter()
            pool: str | None
            try:
                if pools := pools_of(one.pool, level):
                    result, pool = probe_pooled(evaluator, embedded, parts_of(embedded.embeddings, pools), seeds)
                else:
                    result, pool = probe_checked(evaluator, embedded, seeds), one.own_pool(level)
            except Exception as error:
                failed(f"{kind}: {label}", error)
                continue
            rows[kind] = Row(
                encoder=one.name,
                task=task.name,
                evaluator=kind,
                result=result,
                role=one.role,
                chance=task.chance if result.metric == task.measure.name else float("nan"),
                seconds=replace(seconds, probe=time.perf_counter() - begin),
                domain=task.domain,
                pool=pool,
            )
    return [rows[kind] for kind, _ in evaluators if kind in rows]  # in the order of the arguments


def _unfit_rows(
    one: _Encoder,
    task: LoadedTask,
    evaluators: Sequence[tuple[str, Evaluator]],
    failed: Callable[[str, Exception], None],
) -> dict[str, Row]:
    """Return a row without score, with the reason, for each evaluator that cannot do a task."""
    nothing = np.zeros((len(task.clips), 0), dtype=np.float32)
    asked = task.embedded(
        nothing, encoder=one.encoder, read=lambda index: read_clip(task.clips[index], one.encoder.sample_rate)
    )
    rows: dict[str, Row] = {}
    for kind, evaluator in evaluators:
        try:
            reason = unfit_reason(evaluator, asked)
        except Exception as error:
            failed(f"{kind}: {one.name} on {task.name}", error)
            continue
        if reason is not None:
            nan = float("nan")
            note = f"no score of {kind}: {reason}"
            result = Result(task.name, kind, task.measure.name, nan, (nan, nan), {}, [], notes=(note,))
            rows[kind] = Row(one.name, task.name, kind, result, one.role, domain=task.domain)
    return rows


def _embedded(
    one: _Encoder, task: LoadedTask, level: Level, progress: Callable[[int, int], None]
) -> tuple[ProbeTask, Seconds]:
    """Embed a task's clips, or read their embeddings from the cache."""
    encoder, pools = one.encoder, pools_of(one.pool, level)

    def compute() -> Embedded:
        return embed_task(encoder, task, level=level, pools=pools, progress=progress)

    begin = time.perf_counter()
    embeddings, cached = (compute(), False) if level == "audio" else one.cache.get(task.clips, level, compute, pools)
    took = time.perf_counter() - begin
    probe_task = task.embedded(
        embeddings,
        encoder=encoder,
        frames=frame_counts(embeddings) if level == "frames" else None,
        read=lambda index: read_clip(task.clips[index], encoder.sample_rate),
    )
    audio = float("nan") if cached or level == "audio" else total_seconds(task)
    return probe_task, Seconds(audio, took, cached=cached)


def _leave_out(failures: list[Exception], what: str, error: Exception) -> None:
    """Log what failed, and keep its error."""
    error = described(error)
    failures.append(error)
    text = error.message if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
    hint = f" ({error.hint})" if isinstance(error, WorkbenchError) and error.hint else ""
    log.error("%s is left out: %s%s", what, text, hint)


def _check(
    encoders: Mapping[str, Encoder],
    tasks: Sequence[LoadedTask],
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int],
) -> None:
    """Refuse missing and repeated arguments before hours are spent on embedding."""
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


def evaluate_runs(
    runs: Sequence[str | Path],
    tasks: Sequence[LoadedTask],
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int] = (0, 1, 2),
    *,
    with_untrained: bool = True,
    with_baselines: bool = True,
    reference: str | None = None,
    checkpoint: str = "last",
    device: str | torch.device = "cpu",
    keep: bool = True,
    pool: str = MEAN,
    embedding: str = "published",
    progress: RunnerProgress | None = None,
    failures: list[Exception] | None = None,
) -> list[Row]:
    """Probe the encoders of runs and, for comparison, their untrained weights and plain log-mel statistics.

    Embeddings are cached in the folder ``embeddings`` of each run, those of other encoders in the user's cache folder.

    Args:
        runs: run folders, and external encoders as :mod:`ssl_wb.encoder.external` reads them.
        tasks: the tasks.
        evaluators: by name.
        seeds: one repetition each.
        with_untrained: whether the weights a run started from are probed too; once if several runs share them.
        with_baselines: whether log-mel statistics are probed too, once for all runs.
        reference: name of a row that is probed in any case, to compare the others with.
        checkpoint: ``last`` or ``best``; results of the latter say if test clips were used to select it.
        device: where encoders compute.
        keep: whether cached embeddings are used and new ones are cached.
        pool: as in :func:`probe`, alike for encoders and baselines.
        embedding: of a clip, by runs and imported encoders: ``published``, what their authors hand to a probe, or
            ``folded``, ``frames``, ``clip-token``, ``pooled``.
        progress: as in :func:`probe`.
        failures: takes the errors of encoders, tasks and evaluators that failed, whose rows are left out. Without it,
            and where no encoder has any row, the first error is raised.

    Returns:
        Rows in the order of runs, each followed by its untrained weights; log-mel statistics come last.

    Raises:
        UsageError: no run, or one given twice; an encoder from elsewhere cannot be loaded.
        RunFolderError: a folder is no run, or has no checkpoint yet.
    """
    rows: list[Row] = []
    sources = encoder_names(runs)
    failed = None if failures is None else partial(_leave_out, failures)
    refuse_misfits(tasks, evaluators, failed)
    for name, encoder, role, folder in encoders_to_compare(
        sources,
        checkpoint,
        device,
        untrained=with_untrained,
        log_mel=with_baselines,
        pool=pool,
        embedding=embedding,
        reference=reference,
        failed=failed,
    ):
        if role == "baseline" and failures and not rows:
            break  # nothing to compare them with
        source = sources[name] if role == "encoder" and checkpoint == "best" else None
        noted = note_leakage(source, name, tasks) if isinstance(source, Path) else tasks
        kept = folder if keep else None
        rows += probe({name: encoder}, noted, evaluators, seeds, progress, {name: role}, kept, failed, pool)
    if failures and not rows:
        raise failures[0]
    return rows

"""Who is probed on what: runs' encoders beside their untrained selves and plain log-mel statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.contracts.evaluator import Encoder, Evaluator, Level, ProbeTask, Result
from ssl_wb.errors import UsageError
from ssl_wb.evaluate.baselines import baselines
from ssl_wb.evaluate.cache import EmbeddingCache, user_folder
from ssl_wb.evaluate.embeddings import embed_task, frames_of, read_clip, seconds_of
from ssl_wb.evaluate.tasks import LoadedTask

__all__ = ["Role", "Row", "RunnerProgress", "Seconds", "evaluate_run", "evaluate_runs", "probe", "run_names"]

#: What a row is for: the encoder in question, its untrained self, or plain statistics.
Role = Literal["encoder", "untrained", "baseline"]
#: Called with what is being done, the clips done and the clips there are.
RunnerProgress = Callable[[str, int, int], None]

#: Folder of a run that holds its embeddings.
EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class Seconds:
    """What a row cost.

    Attributes:
        audio: length of the task's clips; NaN where nothing was embedded.
        embedding: wall clock of embedding them, or of finding them; shared by the evaluators of one level.
        probe: wall clock of the evaluator.
        cached: whether the embeddings were there already.
    """

    audio: float = float("nan")
    embedding: float = float("nan")
    probe: float = float("nan")
    cached: bool = False

    @property
    def speed(self) -> float:
        """Seconds of audio embedded per second; NaN where embeddings were there already."""
        return float("nan") if self.cached else self.audio / self.embedding

    def as_json(self) -> dict[str, Any]:
        """Plain values; None where there is nothing to tell."""
        values = {"audio": self.audio, "embedding": self.embedding, "probe": self.probe, "speed": self.speed}
        known = {name: None if np.isnan(value) else round(value, 4) for name, value in values.items()}
        return {**known, "cached": self.cached}


@dataclass(frozen=True)
class Row:
    """One encoder on one task by one evaluator.

    Attributes:
        encoder: name in tables.
        task: the task's name.
        evaluator: name of the probe.
        result: what it found.
        role: what the encoder is in this comparison.
        chance: score of knowing nothing on this task; NaN where the evaluator has a measure of its own.
        seconds: what it cost.
    """

    encoder: str
    task: str
    evaluator: str
    result: Result
    role: Role = "encoder"
    chance: float = float("nan")
    seconds: Seconds = field(default_factory=Seconds)

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``--json`` and ``results.json``."""
        values = self.result.as_json()
        for key in ("task", "evaluator"):
            values.pop(key)
        head = {"encoder": self.encoder, "role": self.role, "task": self.task, "evaluator": self.evaluator}
        return _plain({**head, "chance": self.chance, **values, "seconds": self.seconds.as_json()})


def _plain(value: Any) -> Any:
    """Put None for numbers that are not finite, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


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
        fitting = [(kind, one) for kind, one in evaluators if _fits(encoder, one.level)]
        for task in tasks:
            role = (roles or {}).get(name, "encoder")
            rows += _probe_task(name, role, encoder, task, fitting, seeds, progress or _silent, kept)
    return rows


def _silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


def _fits(encoder: Encoder, level: Level) -> bool:
    """Whether an encoder has what an evaluator reads: plain statistics have neither layers nor weights."""
    return {"layers": hasattr(encoder, "layers"), "audio": hasattr(encoder, "backbone")}.get(level, True)


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
            found[kind] = Row(name, task.name, kind, result, role, chance, cost)
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
    frames = None
    if level == "tokens":  # clip by clip: the whole of a mapped file may not fit into memory
        frames = np.array([int(frames_of(torch.tensor(one[None]))[0]) for one in embeddings], dtype=np.int64)
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
    checkpoint: str = "last",
    device: str | torch.device = "cpu",
    keep: bool = True,
    progress: RunnerProgress | None = None,
) -> list[Row]:
    """Probe the encoders of runs and, for comparison, the same untrained and plain log-mel statistics.

    Embeddings are kept in the folder ``embeddings`` of each run, those of log-mel statistics in the user's cache.

    Args:
        runs: the run folders; a row is named after its folder, and its parents as far as names would be the same.
        tasks: the tasks.
        evaluators: by name.
        seeds: one repetition each.
        with_untrained: whether the weights a run started from are probed too.
        with_baselines: whether log-mel statistics are probed too, once for all runs.
        checkpoint: ``last`` or ``best``.
        device: where encoders compute.
        keep: whether embeddings are kept and used.
        progress: as in :func:`probe`.

    Raises:
        UsageError: no run, or one given twice.
        RunFolderError: a folder is no run, or has no checkpoint yet.
    """
    rows = []
    names = run_names(runs)
    compared = _compared(names, checkpoint, device, untrained=with_untrained, plain=with_baselines)
    for name, encoder, role, folder in compared:
        rows += probe({name: encoder}, tasks, evaluators, seeds, progress, {name: role}, folder if keep else None)
    return rows


def run_names(runs: Sequence[str | Path]) -> dict[str, Path]:
    """Name runs after their folders, with as many parents as it takes to tell them apart.

    Raises:
        UsageError: no run, or one given twice.
    """
    paths = [Path(run).resolve() for run in runs]
    if not paths or len(set(paths)) < len(paths):
        what = "no run to probe" if not paths else "a run is named twice"
        raise UsageError(what, hint="Name each run folder once.")
    for parts in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-parts:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, map(Path, runs), strict=True))


def _compared(
    runs: Mapping[str, Path], checkpoint: str, device: str | torch.device, *, untrained: bool, plain: bool
) -> Iterator[tuple[str, Encoder, Role, Path | None]]:
    """Yield the encoders to compare and where their embeddings are kept, one at a time: memory holds one."""
    from ssl_wb.encoder.load import load_encoder

    for name, run in runs.items():
        yield name, load_encoder(run, checkpoint=checkpoint, device=device), "encoder", run / EMBEDDINGS
        if untrained:
            fresh = load_encoder(run, untrained=True, device=device)
            yield f"{name}, untrained", fresh, "untrained", run / EMBEDDINGS
    if plain:
        for label, encoder in baselines().items():
            yield label, encoder, "baseline", user_folder()

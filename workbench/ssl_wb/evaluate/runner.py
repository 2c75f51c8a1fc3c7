"""Who is probed on what: a run's encoder beside its untrained self and plain log-mel statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ssl_wb.contracts.evaluator import Encoder, Evaluator, Result
from ssl_wb.errors import DataError, UsageError
from ssl_wb.evaluate.baselines import baselines
from ssl_wb.evaluate.embeddings import embed_task
from ssl_wb.evaluate.tasks import LoadedTask

__all__ = ["Role", "Row", "RunnerProgress", "difference", "evaluate_run", "probe"]

#: What a row is for: the encoder in question, its untrained self, or plain statistics.
Role = Literal["encoder", "untrained", "baseline"]
#: Called with what is being done, the clips done and the clips there are.
RunnerProgress = Callable[[str, int, int], None]

#: Bootstrap resamples of a difference, and their seed.
RESAMPLES, SEED = 2000, 0


@dataclass(frozen=True)
class Row:
    """One encoder on one task by one evaluator.

    Attributes:
        encoder: name in tables.
        task: the task's name.
        evaluator: name of the probe.
        result: what it found.
        role: what the encoder is in this comparison.
        chance: score of knowing nothing on this task.
    """

    encoder: str
    task: str
    evaluator: str
    result: Result
    role: Role = "encoder"
    chance: float = float("nan")

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``--json`` and ``results.json``."""
        values = self.result.as_json()
        for key in ("task", "evaluator"):
            values.pop(key)
        head = {"encoder": self.encoder, "role": self.role, "task": self.task, "evaluator": self.evaluator}
        return {**head, "chance": self.chance, **values}


def probe(
    encoders: Mapping[str, Encoder],
    tasks: Sequence[LoadedTask],
    evaluators: Sequence[tuple[str, Evaluator]],
    seeds: Sequence[int] = (0, 1, 2),
    progress: RunnerProgress | None = None,
    roles: Mapping[str, Role] | None = None,
) -> list[Row]:
    """Probe every encoder on every task by every evaluator; each task is embedded once per encoder.

    Args:
        encoders: by name in tables.
        tasks: the tasks; names differ.
        evaluators: by name.
        seeds: one repetition each.
        progress: told while clips are embedded, and before each probe.
        roles: of encoders that are not the encoder in question.

    Returns:
        One row per encoder, task and evaluator, in that order.

    Raises:
        UsageError: nothing to do, or two tasks of one name.
        AudioError: a clip cannot be read.
        DataError: an encoder gives embeddings that are not finite.
    """
    _check(encoders, tasks, evaluators, seeds)
    rows = []
    for name, encoder in encoders.items():
        for task in tasks:
            label = f"{name} on {task.name}"

            def embedding(done: int, total: int, label: str = label) -> None:
                if progress is not None:
                    progress(f"embedding: {label}", done, total)

            embedded = task.embedded(embed_task(encoder, task, progress=embedding))
            for kind, evaluator in evaluators:
                if progress is not None:
                    progress(f"{kind}: {label}", len(task.clips), len(task.clips))
                result = evaluator(embedded, seeds)
                rows.append(Row(name, task.name, kind, result, (roles or {}).get(name, "encoder"), task.chance))
    return rows


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
    *,
    with_untrained: bool = True,
    with_baselines: bool = True,
    checkpoint: str = "last",
    device: str | torch.device = "cpu",
    progress: RunnerProgress | None = None,
) -> list[Row]:
    """Probe the encoder of a run and, for comparison, the same untrained and plain log-mel statistics.

    Args:
        run: the run folder.
        tasks: the tasks.
        evaluators: by name.
        seeds: one repetition each.
        with_untrained: whether the weights the run started from are probed too.
        with_baselines: whether log-mel statistics are probed too.
        checkpoint: ``last`` or ``best``.
        device: where the encoder computes.
        progress: as in :func:`probe`.

    Raises:
        RunFolderError: the folder is no run, or has no checkpoint yet.
    """
    rows = []
    for name, encoder, role in _compared(Path(run), checkpoint, device, untrained=with_untrained, plain=with_baselines):
        rows += probe({name: encoder}, tasks, evaluators, seeds, progress, {name: role})
    return rows


def _compared(
    run: Path, checkpoint: str, device: str | torch.device, *, untrained: bool, plain: bool
) -> Iterator[tuple[str, Encoder, Role]]:
    """Yield the encoders to compare, one at a time, so that memory holds one."""
    from ssl_wb.encoder.load import load_encoder

    name = run.resolve().name
    yield name, load_encoder(run, checkpoint=checkpoint, device=device), "encoder"
    if untrained:
        yield f"{name}, untrained", load_encoder(run, untrained=True, device=device), "untrained"
    if plain:
        for label, encoder in baselines().items():
            yield label, encoder, "baseline"


def difference(a: Result, b: Result) -> tuple[float, float, float]:
    """Compare two results on the same clips.

    Args:
        a: result with per-clip scores.
        b: another on the same task.

    Returns:
        Mean of ``a - b`` over test clips and its 95 % interval, low and high, by a paired percentile bootstrap:
        each resample draws clips, and both encoders are scored on the same ones.

    Raises:
        DataError: the results are not of the same clips, or have no per-clip scores (mAP has none).
    """
    if a.per_clip is None or b.per_clip is None:
        raise DataError(
            f"task {a.task!r}: {a.metric} has no score per clip, so no paired difference",
            hint="Compare the two intervals instead.",
        )
    tested = ~np.isnan(a.per_clip)
    if a.task != b.task or len(a.per_clip) != len(b.per_clip) or (tested != ~np.isnan(b.per_clip)).any():
        raise DataError(
            f"results of {a.task!r} and {b.task!r} are not of the same test clips",
            hint="Probe both encoders on one manifest with the same columns split and fold.",
        )
    deltas = (a.per_clip - b.per_clip)[tested].astype(np.float64)  # [n]
    generator = np.random.default_rng(SEED)
    count = len(deltas)
    means = [deltas[generator.integers(0, count, count)].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(deltas.mean()), float(low), float(high)

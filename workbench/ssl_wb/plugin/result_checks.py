"""What an evaluator returned, against its contract; and what it cannot do, asked beforehand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.plugin.evaluator import Evaluator, ProbeTask, Result, SplitScores

__all__ = ["check_result", "probe", "unfit_reason", "without_score"]

NAN = float("nan")


def probe(evaluator: Evaluator, task: ProbeTask, seeds: Sequence[int]) -> Result:
    """Probe a task and check what comes back.

    A result whose test predictions are not finite has no score, whatever the evaluator made of them: the class that an
    argmax of NaN names would look like a score at chance.

    Args:
        evaluator: the evaluator.
        task: the task.
        seeds: one repetition each.

    Returns:
        The result. Where the score is NaN, a note says so with the evaluator's name.

    Raises:
        PluginError: the result breaks the contract.
    """
    result = check_result(evaluator, task, evaluator(task, seeds))
    wrong = sum(int((~np.isfinite(part.scores)).any(axis=-1).sum()) for part in result.scores)
    if wrong:
        every = sum(math.prod(part.scores.shape[:2]) for part in result.scores)
        reason = f"{wrong} of {every} predictions are not finite numbers"
        return without_score(result, f"{evaluator.name} has no score: {reason}")
    if math.isnan(result.mean):
        return replace(result, notes=(*result.notes, f"{evaluator.name} has no score: {result.metric} is NaN"))
    return result


def without_score(result: Result, reason: str) -> Result:
    """Return a result without any figure, and the reason among its notes."""
    return replace(
        result,
        mean=NAN,
        interval=(NAN, NAN),
        per_fold=dict.fromkeys(result.per_fold, NAN),
        per_seed=[NAN] * len(result.per_seed),
        notes=(*result.notes, reason),
        per_clip=None,
        table={},
        detail={},
        scores=(),
    )


def unfit_reason(evaluator: Evaluator, task: ProbeTask) -> str | None:
    """Return why an evaluator cannot do a task, before its clips are embedded; None where it can.

    Args:
        evaluator: the evaluator.
        task: the task; its embeddings are taken out.

    Raises:
        PluginError: ``fits`` returns neither.
    """
    reason = evaluator.fits(replace(task, embeddings=np.zeros((len(task.labels), 0), dtype=np.float32)))
    if reason is not None and not (isinstance(reason, str) and reason.strip()):
        refuse(evaluator, "return None or a reason from fits", repr(reason))
    return reason


def check_result(evaluator: Evaluator, task: ProbeTask, result: object) -> Result:
    """Check what an evaluator returned.

    Raises:
        PluginError: it is no :class:`Result`, or a part of it has another type or shape than the contract says.
    """
    if not isinstance(result, Result):
        refuse(evaluator, "return a Result", type(result).__name__)
    if not isinstance(result.metric, str) or not result.metric:
        refuse(evaluator, "name its metric", repr(result.metric))
    for name, value in _figures(evaluator, result):
        if not isinstance(value, int | float) or isinstance(value, bool):
            refuse(evaluator, "return plain numbers as figures", f"{name} is {type(value).__name__}")
        if math.isinf(value):
            refuse(evaluator, "return finite figures", f"{name} is {float(value)}")
    low, high = result.interval
    if low > high:
        refuse(evaluator, "return an interval from low to high", f"{low} to {high}")
    for name in ("settings", "table", "detail", "per_fold", "per_seed"):
        _check_plain(evaluator, name, getattr(result, name))
    if isinstance(result.notes, str) or not all(isinstance(note, str) for note in result.notes):
        refuse(evaluator, "return a tuple of sentences as notes", repr(result.notes)[:80])
    _check_arrays(evaluator, task, result)
    return result


def _figures(evaluator: Evaluator, result: Result) -> Iterator[tuple[str, Any]]:
    """Iterate over (name, value) pairs of all figures."""
    if not isinstance(result.per_fold, Mapping) or not isinstance(result.table, Mapping):
        refuse(evaluator, "return per_fold and table as figures by name", f"{result.per_fold!r:.80}")
    if not isinstance(result.interval, tuple | list) or len(result.interval) != 2:
        refuse(evaluator, "return an interval of two numbers", f"{result.interval!r:.80}")
    yield "mean", result.mean
    yield from ((f"interval[{number}]", value) for number, value in enumerate(result.interval))
    yield from ((f"per_seed[{number}]", value) for number, value in enumerate(result.per_seed))
    yield from ((f"per_fold[{name!r}]", value) for name, value in result.per_fold.items())
    yield from ((f"table[{name!r}]", value) for name, value in result.table.items())


def _check_plain(evaluator: Evaluator, name: str, value: object) -> None:
    """Check that JSON has the values."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        refuse(evaluator, f"return plain values, which JSON has, as {name}", str(error))


def _check_arrays(evaluator: Evaluator, task: ProbeTask, result: Result) -> None:
    """Check the shapes of what belongs to single clips."""
    clips = len(task.labels)
    if result.per_clip is not None and np.shape(result.per_clip) != (clips,):
        refuse(evaluator, f"return per_clip [clips] = [{clips}]", f"{list(np.shape(result.per_clip))}")
    for part in result.scores:
        if not isinstance(part, SplitScores):
            refuse(evaluator, "return SplitScores as scores", type(part).__name__)
        shape, tested = np.shape(part.scores), len(part.split.test)
        if len(shape) != 3 or shape[1] != tested:
            wanted = f"[seeds, test clips, classes], with {tested} test clips"
            refuse(evaluator, f"return scores {wanted}", f"{list(shape)} in {part.split.name}")

"""Results of evaluation: one encoder on one task by one evaluator, and the time it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ssl_wb.plugin.evaluator import Result

__all__ = ["Role", "Row", "Seconds"]

#: Role of an encoder in a table: the one in question, its untrained weights, or log-mel statistics.
Role = Literal["encoder", "untrained", "baseline"]


@dataclass(frozen=True)
class Seconds:
    """Time of one result, in seconds.

    Attributes:
        audio: length of the task's clips; NaN where nothing was embedded.
        embedding: wall clock of embedding them, or of reading cached embeddings; shared by the evaluators of one level.
        probe: wall clock of the evaluator.
        cached: whether the embeddings came from the cache.
    """

    audio: float = float("nan")
    embedding: float = float("nan")
    probe: float = float("nan")
    cached: bool = False

    @property
    def speed(self) -> float:
        """Seconds of audio embedded per second; NaN for cached embeddings."""
        return float("nan") if self.cached else self.audio / self.embedding

    def as_json(self) -> dict[str, Any]:
        """Return plain values; None for what is not known."""
        values = {"audio": self.audio, "embedding": self.embedding, "probe": self.probe, "speed": self.speed}
        known = {name: None if np.isnan(value) else round(value, 4) for name, value in values.items()}
        return {**known, "cached": self.cached}


@dataclass(frozen=True)
class Row:
    """Result of one encoder on one task by one evaluator.

    Attributes:
        encoder: name in tables.
        task: the task's name.
        evaluator: name of the evaluator.
        result: its result.
        role: role of the encoder in this comparison.
        chance: chance level of the task's metric; NaN where the evaluator reports another figure.
        seconds: time it took.
        domain: the task's group in tables; None where it has none.
        pool: how frames became the vector of a clip, as ``mean+std``; None where the evaluator reads no such vector.
    """

    encoder: str
    task: str
    evaluator: str
    result: Result
    role: Role = "encoder"
    chance: float = float("nan")
    seconds: Seconds = field(default_factory=Seconds)
    domain: str | None = None
    pool: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for ``--json`` and ``results.json``."""
        values = self.result.as_json()
        for key in ("task", "evaluator"):
            values.pop(key)
        head = {"encoder": self.encoder, "role": self.role, "task": self.task, "domain": self.domain}
        return _plain(
            {
                **head,
                "evaluator": self.evaluator,
                "pool": self.pool,
                "chance": self.chance,
                **values,
                "seconds": self.seconds.as_json(),
            }
        )


def _plain(value: Any) -> Any:
    """Replace numbers that are not finite, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value

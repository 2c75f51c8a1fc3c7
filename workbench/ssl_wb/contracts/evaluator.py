"""The evaluator contract: how good are a frozen encoder's embeddings at a task?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.contracts.plugin import Kind, Plugin, PluginOptions

__all__ = ["Encoder", "Evaluator", "ProbeTask", "Result", "Split"]


class Encoder(Protocol):
    """What an evaluator may ask of a frozen encoder."""

    sample_rate: int

    def embed_clip(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` (``lengths [B]`` samples each) as ``[B, D]``."""
        ...

    def embed_frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` as ``[B, T, D]``; frames past a clip's end are 0."""
        ...


@dataclass(frozen=True)
class Split:
    """One way to divide a task: int64 indices of clips to train on, to choose with and to report on.

    ``held_out`` says that the workbench took the validation clips out of the training part because the task names none:
    once they have chosen, an evaluator may train on them.
    """

    name: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    held_out: bool = False


@dataclass(frozen=True)
class ProbeTask:
    """A task with its clips embedded.

    Attributes:
        name: the task's name.
        embeddings: float32 ``[clips, D]``, one per clip.
        labels: int64 ``[clips]`` (single label) or float32 ``[clips, classes]`` of 0 and 1 (several labels).
        classes: class names in label order.
        splits: folds, or one fixed split.
        notes: what the reader of a result should know, as "no validation part: 10 % of train held out".
    """

    name: str
    embeddings: NDArray[np.float32]
    labels: NDArray[Any]
    classes: Sequence[str]
    splits: Sequence[Split]
    notes: Sequence[str] = ()

    @property
    def multi_label(self) -> bool:
        """Whether a clip may carry several labels."""
        return self.labels.ndim == 2


@dataclass(frozen=True)
class Result:
    """What an evaluator found.

    Attributes:
        metric: ``accuracy`` or ``mAP``.
        mean: over folds and seeds, 0 to 1.
        interval: 95 % confidence interval of the mean, low and high.
        per_fold: score of each fold, mean over seeds.
        per_seed: score of each seed, mean over folds.
        settings: options and choices made (learning rate per fold, epochs, ...).
        per_clip: float32 ``[clips]``: score of each test clip, mean over seeds, NaN where never tested (single label
            only); lets two encoders be compared clip by clip.
    """

    task: str
    evaluator: str
    metric: Literal["accuracy", "mAP"]
    mean: float
    interval: tuple[float, float]
    per_fold: dict[str, float]
    per_seed: list[float]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    per_clip: NDArray[np.float32] | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``, without the per-clip scores."""
        values = asdict(self)
        values.pop("per_clip")
        return values


class Evaluator(Plugin, ABC):
    """Scores frozen embeddings on a task."""

    kind: ClassVar[Kind] = "evaluator"

    def __init__(self, options: PluginOptions) -> None:
        self.options = options

    @abstractmethod
    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe the task once per seed and fold; choose on validation clips only, read test clips once."""

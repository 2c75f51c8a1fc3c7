"""The evaluator contract: how good are a frozen encoder's embeddings at a task?"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from ssl_wb.plugin.base import Duration, Kind, Plugin, PluginOptions, PluginSection

__all__ = [
    "POOLINGS",
    "Assigned",
    "AssigningEncoder",
    "Encoder",
    "Evaluator",
    "EvaluatorSection",
    "Level",
    "MaskingEncoder",
    "ProbeTask",
    "Result",
    "Split",
    "SplitScores",
    "level_of",
]

#: The words for poolings of frames, as a regular expression; more than 64 segments would be frames.
POOLINGS = r"mean|mean\+std|segments:([1-9]|[1-5][0-9]|6[0-4])|auto"

#: What an evaluator reads; :class:`Evaluator` says what each is. ``tokens`` is the name of ``frames`` in version 0.1.
Level = Literal["clip", "layers", "frames", "audio", "tokens"]


class Encoder(Protocol):
    """What an evaluator may ask of a frozen encoder.

    Attributes:
        sample_rate: of the waveforms it embeds, in Hz.
    """

    sample_rate: int

    def embed_clip(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` (``lengths [B]`` samples each) as ``[B, D]``."""
        ...

    def embed_frames(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` as ``[B, T, D]``; frames past a clip's end are 0."""
        ...


@dataclass(frozen=True)
class Assigned:
    """To which of its classes an objective of the pretext task assigns clips.

    Attributes:
        clips: float32 ``[B, K]``, probabilities of K classes, mean over each clip's own patches.
        patches: int64 ``[B, T, F]``, likeliest class of every patch; -1 past a clip's end.
    """

    clips: Tensor
    patches: Tensor


@runtime_checkable
class AssigningEncoder(Protocol):
    """An encoder that can ask the objectives it was trained with; an evaluator checks with ``isinstance``."""

    def assign(self, waveform: Tensor, lengths: Tensor | None = None) -> dict[str, Assigned]:
        """Assign waveforms ``[B, S]`` to classes, by objective; empty where no objective has classes."""
        ...


@runtime_checkable
class MaskingEncoder(Protocol):
    """An encoder that can embed what is left when patches are hidden; an evaluator checks with ``isinstance``."""

    def embed_masked(
        self, waveform: Tensor, lengths: Tensor | None = None, *, ratios: Sequence[float], seeds: Sequence[int]
    ) -> Tensor:
        """Embed waveforms ``[B, S]`` as ``[R, B, D]`` with R shares of their patches hidden, drawn by B ``seeds``."""
        ...


@dataclass(frozen=True)
class Split:
    """One way to divide the clips of a task; the three parts have no clip in common.

    Attributes:
        name: as ``fold 1``.
        train: int64 indices of the clips to train on.
        validation: int64 indices of the clips to choose settings with.
        test: int64 indices of the clips to report on.
        held_out: the task names no validation clips, and these were taken out of the training part. Once the settings
            are chosen, an evaluator may train on them.
    """

    name: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    held_out: bool = False


@dataclass(frozen=True)
class SplitScores:
    """A probe's scores of the test clips of one split.

    Attributes:
        split: the split.
        scores: float ``[seeds, test clips, classes]``, higher is likelier; ``[seeds, test clips, 1]``, the predicted
            number, for regression.
    """

    split: Split
    scores: NDArray[Any]


@dataclass(frozen=True)
class ProbeTask:
    """A task with its clips embedded. Construct it by keyword; positions are kept for plugins that do not.

    Attributes:
        name: the task's name.
        embeddings: float32, of the evaluator's ``level``: ``clip`` ``[clips, D]``; ``layers`` ``[clips, L, D]``, the
            last one normed; ``frames`` ``[clips, T, D]``, 0 past a clip's own ``frames``; ``audio`` ``[clips, 0]``. May
            be memory-mapped and is read-only: slice first, then compute. Frames are kept without padding and read like
            the padded array; what is not sliced is padded whole.
        labels: int64 ``[clips]`` (single label), float32 ``[clips, classes]`` of 0 and 1 (several labels) or float64
            ``[clips]`` (a number to regress).
        classes: class names in label order; of a regression the one name of the number.
        splits: folds, or one fixed split.
        notes: what the reader of a result should know, as "no validation part: 10 % of train held out".
        metric: name of the metric to report; None for the labels' default (accuracy, mAP, R2).
        frames: int64 ``[clips]``, frames of each clip, for level ``frames``.
        encoder: what embedded the clips, or None. Train a copy of it, never the encoder itself.
        read: returns the float32 waveform ``[S]`` of a clip by its index, at the encoder's sample rate.
        captions: of each clip, where the manifest has them.
    """

    name: str
    embeddings: NDArray[np.float32]
    labels: NDArray[Any]
    classes: Sequence[str]
    splits: Sequence[Split]
    notes: Sequence[str] = ()
    metric: str | None = None
    frames: NDArray[np.int64] | None = None
    encoder: Encoder | None = None
    read: Callable[[int], NDArray[np.float32]] | None = None
    captions: Sequence[tuple[str, ...]] | None = None

    @property
    def multi_label(self) -> bool:
        """Whether a clip may carry several labels."""
        return self.labels.ndim == 2

    @property
    def regression(self) -> bool:
        """Whether the labels are numbers to predict."""
        return self.labels.ndim == 1 and bool(np.issubdtype(self.labels.dtype, np.floating))


@dataclass(frozen=True)
class Result:
    """What an evaluator found.

    Attributes:
        task: name of the task.
        evaluator: name of the evaluator.
        metric: ``accuracy``, ``mAP``, or another by name.
        mean: over folds and seeds.
        interval: 95 % confidence interval of the mean, low and high; NaN where there is none.
        per_fold: score of each fold, mean over seeds.
        per_seed: score of each seed, mean over folds.
        settings: options and choices made (learning rate per fold, epochs, ...).
        notes: what the reader should know.
        per_clip: float32 ``[clips]``: score of each test clip, mean over seeds, NaN where never tested (accuracy
            only); lets two encoders be compared clip by clip.
        table: further figures by name, as other metrics or a score per layer.
        detail: what a plot needs, in plain values. ``evaluate --chart`` draws ``per layer``, scores ``[L]``, beside
            ``all layers``, scores of all of them together by name, and any ``... weights``, ``[L]`` by split; and
            ``singular values`` ``[k]``, falling from 1, beside ``hidden``, the ``effective rank`` by each ``share`` of
            patches hidden.
        percent: whether tables print 100 times the score.
        higher: whether more is better.
        scores: of the test clips of every split, for paired differences; not in JSON.
        labels: of all clips, as in the task, for paired differences; not in JSON.
    """

    task: str
    evaluator: str
    metric: str
    mean: float
    interval: tuple[float, float]
    per_fold: dict[str, float]
    per_seed: list[float]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    per_clip: NDArray[np.float32] | None = None
    table: dict[str, float] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)
    percent: bool = True
    higher: bool = True
    scores: tuple[SplitScores, ...] = ()
    labels: NDArray[Any] | None = None

    @property
    def std(self) -> float:
        """Standard deviation over seeds (n - 1); NaN with one seed."""
        return float(np.std(self.per_seed, ddof=1)) if len(self.per_seed) > 1 else float("nan")

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``--json``, without what belongs to single clips."""
        single = {"per_clip", "scores", "labels"}
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in single}
        return {**values, "std": self.std}


class EvaluatorSection(PluginSection):
    """A recipe's section ``[[evaluate]]``."""

    task: str = Field(description="Manifest CSV with labels, or 'synthetic:scenes'.")
    metric: str | None = Field(
        None, description="What is reported: a metric that fits the labels; accuracy, mAP or R2 unless given."
    )
    pooling: str = Field(
        "mean",
        pattern=f"^({POOLINGS})$",
        description="How the frames of a clip become one vector: 'mean' (as in the papers), 'mean+std', 'segments:N', "
        "or 'auto', chosen on validation clips.",
    )
    every: Duration | None = Field(
        None,
        description="Between probes while training, on clips that are not in the task's test part. The first probe "
        "with this key decides which checkpoint is 'best'.",
    )
    every_clips: int = Field(2000, ge=20, description="Clips of a probe while training, at most.")
    allow_leaks: bool = Field(
        False, description="Accept clips of one recording in train and test of the task: scores are then too high."
    )

    @field_validator("every")
    @classmethod
    def _some(cls, every: float | None) -> float | None:
        if every == 0:
            raise ValueError("0 is no stretch of training; leave it out to probe after training only")
        return every


class Evaluator(Plugin, ABC):
    """Scores frozen embeddings on a task.

    Args:
        options: the plugin's options.

    Attributes:
        level: what ``ProbeTask.embeddings`` holds; each level is computed once per encoder and kept. ``clip``: one
            embedding per clip; ``layers``: one per clip and block of the encoder; ``frames``: one per clip and frame;
            ``audio``: no embedding, for evaluators that use ``ProbeTask.encoder`` and ``ProbeTask.read`` themselves.
        options: the plugin's options.
    """

    kind: ClassVar[Kind] = "evaluator"
    level: ClassVar[Level] = "clip"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Accept the name that level ``frames`` had in version 0.1."""
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("level") == "tokens":
            # The attribute keeps its value, which the plugin may compare with; the workbench asks level_of. The third
            # frame is the class statement: abc's is between.
            warnings.warn(
                f"evaluator {cls.__name__}: level 'tokens' is now called 'frames'", DeprecationWarning, stacklevel=3
            )

    def __init__(self, options: PluginOptions) -> None:
        self.options = options

    def fits(self, task: ProbeTask) -> str | None:
        """Return why this evaluator cannot do a task, as "retrieval needs classes"; None where it can.

        It is asked before any clip is embedded. A result table then has an empty cell with the reason.

        Args:
            task: the task; ``embeddings`` is ``[clips, 0]``. ``encoder`` is None before one is loaded, as in
                ``validate``: then only labels, splits and captions can speak.
        """
        del task
        return None

    @abstractmethod
    def __call__(self, task: ProbeTask, seeds: Sequence[int]) -> Result:
        """Probe the task once per seed and split.

        Settings are chosen on validation clips only; test clips are scored once, with the chosen settings.

        Args:
            task: the task with its clips embedded.
            seeds: of initial weights and batch order; one score for each.

        Returns:
            The scores; ``settings`` records what was chosen.

        Raises:
            DataError: the task has labels or parts that this evaluator cannot use; see
                :func:`ssl_wb.api.require_labels` and :func:`ssl_wb.api.require_parts`.
            UsageError: the encoder does not offer what this evaluator needs.
        """


def level_of(evaluator: Evaluator | type[Evaluator]) -> Level:
    """Return what an evaluator reads, by its name of today."""
    return "frames" if evaluator.level == "tokens" else evaluator.level

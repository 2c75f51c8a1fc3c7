"""The objective contract: a loss, what it needs of the step, and what it hands on."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ssl_wb.plugin.base import Kind, Plugin, PluginOptions, PluginSection
from ssl_wb.plugin.masker import Grid, Mask

__all__ = [
    "HealthRule",
    "Metrics",
    "ModelShapes",
    "Need",
    "Objective",
    "ObjectiveOutput",
    "ObjectiveSection",
    "StepState",
    "View",
]

#: What an objective may ask for; :class:`Objective` says what each is. ``branches`` is the old name of ``mlp_outputs``.
Need = Literal["features", "target", "pooled", "prediction", "layers", "mlp_outputs", "branches", "captions"]

#: Figures by name: detached scalars.
Metrics = dict[str, Tensor | float]


@dataclass(frozen=True)
class ModelShapes:
    """Sizes an objective needs to build its heads.

    Attributes:
        latent_dim: ``D``, width of student and teacher latents and of the pooled embedding.
        feature_dim: ``Dd``, width of the predictor's features.
        patch_pixels: ``P``, pixels per patch.
        grid: patch grid of a training crop.
        views: masks per clip.
        total_steps: optimiser steps of the run, to resolve durations.
        teacher_sees: patches the teacher encodes, ``masked`` or ``all``.
        caption_dim: ``C``, width of the caption embeddings.
    """

    latent_dim: int
    feature_dim: int
    patch_pixels: int
    grid: Grid
    views: int
    total_steps: int
    teacher_sees: Literal["masked", "all"] = "masked"
    caption_dim: int = 768


@dataclass(init=False)
class View:
    """One view: the batch under one mask, and what the model computed from it.

    What no objective needs is None. An objective finds all that its own ``needs`` names, so the types say Tensor.

    Attributes:
        mask: the visible and masked patches.
        latents: ``[B, Nv, D]`` student latents of the visible patches (prefix tokens dropped).
        patches: ``[B, N, P]`` pixels of the clip, with this view's augmentation where each view has its own.
        pooled: ``[B, D]`` clip embedding.
        features: ``[B, Nm, Dd]`` predictor output at the masked positions.
        target: ``[B, Nm, D]`` teacher latents at the masked positions, without gradient.
        prediction: ``[B, Nm, D]`` what an earlier objective predicted.
        layers: output of each teacher block ``[B, K, D]``, without gradient, not normed. K is Nm where the teacher sees
            the masked patches, N where it sees all.
        mlp_outputs: likewise, what each block's MLP adds to its input.
        final_norm: what the teacher applies after its last block: ``[B, K, D]`` to ``[B, K, D]``.
    """

    mask: Mask
    latents: Tensor
    patches: Tensor
    pooled: Tensor = None  # type: ignore[assignment]
    features: Tensor = None  # type: ignore[assignment]
    target: Tensor = None  # type: ignore[assignment]
    prediction: Tensor = None  # type: ignore[assignment]
    layers: tuple[Tensor, ...] = ()
    mlp_outputs: tuple[Tensor, ...] = ()
    final_norm: Callable[[Tensor], Tensor] = lambda latents: latents

    def __init__(
        self,
        mask: Mask,
        latents: Tensor,
        patches: Tensor,
        pooled: Tensor = None,  # type: ignore[assignment]
        features: Tensor = None,  # type: ignore[assignment]
        target: Tensor = None,  # type: ignore[assignment]
        prediction: Tensor = None,  # type: ignore[assignment]
        layers: tuple[Tensor, ...] = (),
        mlp_outputs: tuple[Tensor, ...] = (),
        final_norm: Callable[[Tensor], Tensor] = lambda latents: latents,
        *,
        branches: tuple[Tensor, ...] | None = None,
        finish: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Set the attributes; ``branches`` and ``finish`` are old names, and the reason why this is written out."""
        self.mask, self.latents, self.patches, self.pooled = mask, latents, patches, pooled
        self.features, self.target, self.prediction, self.layers = features, target, prediction, layers
        self.mlp_outputs, self.final_norm = mlp_outputs, final_norm
        if branches is not None:
            self.branches = branches
        if finish is not None:
            self.finish = finish

    @property
    def branches(self) -> tuple[Tensor, ...]:
        """Old name of ``mlp_outputs``."""
        warnings.warn("View.branches is now View.mlp_outputs", DeprecationWarning, stacklevel=2)
        return self.mlp_outputs

    @branches.setter
    def branches(self, mlp_outputs: tuple[Tensor, ...]) -> None:
        warnings.warn("View.branches is now View.mlp_outputs", DeprecationWarning, stacklevel=2)
        self.mlp_outputs = mlp_outputs

    @property
    def finish(self) -> Callable[[Tensor], Tensor]:
        """Old name of ``final_norm``."""
        warnings.warn("View.finish is now View.final_norm", DeprecationWarning, stacklevel=2)
        return self.final_norm

    @finish.setter
    def finish(self, final_norm: Callable[[Tensor], Tensor]) -> None:
        warnings.warn("View.finish is now View.final_norm", DeprecationWarning, stacklevel=2)
        self.final_norm = final_norm


@dataclass
class StepState:
    """Everything of one training step that an objective may read.

    Attributes:
        grid: the patch grid.
        views: one per mask.
        step: optimiser steps done before this one.
        total_steps: optimiser steps of the run.
        measure: whether health figures are wanted in this step; see :meth:`measures`.
        captions: ``[B, C]`` caption embeddings, where the data has them.
    """

    grid: Grid
    views: tuple[View, ...]
    step: int
    total_steps: int
    measure: bool = False
    captions: Tensor = None  # type: ignore[assignment]

    @property
    def progress(self) -> float:
        """Share of training done, 0 to 1."""
        return self.step / max(1, self.total_steps)

    def measures(self, view: View) -> bool:
        """Whether health figures are wanted of a view: they cost time, so only of the first one, in measured steps."""
        return self.measure and view is self.views[0]


@dataclass
class ObjectiveOutput:
    """What an objective returns.

    Attributes:
        loss: float32 scalar, mean over clips and patches.
        metrics: detached scalars by name: parts of the loss and, when ``state.measure``, health figures.
        prediction: one ``[B, Nm, D]`` per view, passed to the objectives after this one; None passes nothing on.
    """

    loss: Tensor
    metrics: dict[str, Tensor | float] = field(default_factory=dict)
    prediction: tuple[Tensor, ...] | None = None

    @classmethod
    def over_views(cls, outputs: Iterable[ObjectiveOutput]) -> ObjectiveOutput:
        """Join one output per view to that of the step.

        Args:
            outputs: of the views, in their order; ``prediction`` holds that view's alone, or is None in all of them.

        Returns:
            The mean of the losses, all metrics (of equal names the first view's) and the predictions of all views.
        """
        views = tuple(outputs)
        metrics: Metrics = {}
        for view in reversed(views):  # the first view last, so that its figures win
            metrics |= view.metrics
        predictions = [one for view in views for one in view.prediction or ()]
        return cls(torch.stack([view.loss for view in views]).mean(), metrics, tuple(predictions) or None)


@dataclass(frozen=True)
class HealthRule:
    """A figure that tells collapse, and the level at which it does.

    The user is warned when ``metric`` stays below ``below`` (or above ``above``) in several measured steps in a row.

    Attributes:
        metric: name in ``ObjectiveOutput.metrics``.
        meaning: one sentence for the user: what this says and what to try.
        below: fires under this level.
        above: fires over this level.
        after: share of the run during which the rule keeps silent, for figures that start low; above 0 it is 200 steps
            at least.
    """

    metric: str
    meaning: str
    below: float | None = None
    above: float | None = None
    after: float = 0.0

    @classmethod
    def collapse(
        cls,
        metric: str,
        what: str,
        *,
        over: str = "patch",
        remedy: str = "lower the learning rate, raise the teacher's decay, or mask less",
        below: float = 0.02,
        after: float = 0.0,
    ) -> HealthRule:
        """Return the rule of a spread of directions that vanishes.

        Args:
            metric: a :func:`ssl_wb.api.direction_std`, which is about 1 in a healthy model.
            what: of what it is the spread, in the plural, as "the predictions".
            over: what the rows are: "patch" or "clip".
            remedy: what the user can try.
            below: see :class:`HealthRule`.
            after: see :class:`HealthRule`.
        """
        meaning = f"{what} are nearly the same for every {over}: the representation is collapsing ({remedy})"
        return cls(metric, meaning, below=below, after=after)


class ObjectiveSection(PluginSection):
    """A recipe's section ``[[objective]]``."""

    weight: float = Field(
        1.0,
        ge=0.0,
        description="Factor of the loss in the total; 0 keeps the objective's part in the cascade.",
    )


class Objective(Plugin, nn.Module, ABC):
    """A loss over the step's state.

    It is a module: its heads are trained with the student, under the caller's autocast. Losses are computed in float32.
    Objectives run in the order of the recipe.

    Args:
        options: the plugin's options.
        shapes: sizes of the model it is built into.

    Raises:
        ValueError: the options do not fit ``shapes``; the user gets the message as a mistake of the recipe. What can
            only be seen in :meth:`forward`, such as the teacher's number of blocks, raises :class:`UsageError` there.

    Attributes:
        needs: what the pretext model has to compute for this objective. A predictor or a teacher is built only when an
            objective of the recipe needs it. ``__init__`` may set it on the instance, where it depends on options.

            =============== ============================================================ ==========================
            need            found in                                                     makes the model build
            =============== ============================================================ ==========================
            ``features``    ``View.features`` ``[B, Nm, Dd]``, the predictor's output    a predictor
            ``target``      ``View.target`` ``[B, Nm, D]``, the teacher's latents        a teacher
            ``layers``      ``View.layers``, each teacher block's output                 a teacher
            ``mlp_outputs`` ``View.mlp_outputs``, what each teacher block's MLP adds     a teacher
            ``pooled``      ``View.pooled`` ``[B, D]``, the clip embedding               the backbone's pooling
            ``prediction``  ``View.prediction`` ``[B, Nm, D]`` of an earlier objective   nothing
            ``captions``    ``StepState.captions`` ``[B, C]``, caption embeddings        nothing; data.captions
            =============== ============================================================ ==========================
        provides: what its output hands to later objectives: ``prediction``, or nothing.
        contrasts: whether its loss compares clips of a pass, so that a recipe with one clip for each is refused.
        options: the plugin's options.
        shapes: sizes of the model.
    """

    kind: ClassVar[Kind] = "objective"
    needs: frozenset[Need] = frozenset()
    provides: ClassVar[frozenset[Need]] = frozenset()
    contrasts: ClassVar[bool] = False

    def __init__(self, options: PluginOptions, shapes: ModelShapes) -> None:
        nn.Module.__init__(self)
        self.options = options
        self.shapes = shapes

    @abstractmethod
    def forward(self, state: StepState) -> ObjectiveOutput:
        """Compute the loss of one (micro-)batch.

        It may run several times in an optimiser step, so it changes no state that a loss depends on: collect with
        :class:`ssl_wb.api.StepMean`, and change it in :meth:`after_step`.

        Args:
            state: the encoded views; what ``needs`` names is in them.

        Raises:
            UsageError: the options ask for what this model does not have.
        """

    def after_step(self, step: int, total_steps: int) -> None:
        """Move the objective's own EMA or centre, once per optimiser step, after it, on every process.

        Args:
            step: optimiser steps done, this one included.
            total_steps: optimiser steps of the run.
        """

    def uncertainty(self, view: View) -> Tensor | None:
        """Return the disagreement between this objective's own predictions of each masked patch.

        Args:
            view: with ``features`` at least.

        Returns:
            float32 ``[B, Nm]``, or None from an objective that predicts one thing only.
        """
        return None

    def assignments(self, latents: Tensor) -> Tensor | None:
        """Return the probabilities by which this objective assigns patches to its own classes, as it does in training.

        Args:
            latents: ``[B, N, D]`` of the patches: the teacher's where the run has a teacher, else the student's.

        Returns:
            float32 ``[B, N, K]``, each patch's probabilities of K classes, or None from an objective without classes.
        """
        return None

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Return the figures among the metrics that tell collapse, each with its level."""
        return ()

"""The objective contract: a loss, what it needs of the step, and what it hands on."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from ssl_wb.plugin.base import Kind, Plugin, PluginOptions, PluginSection
from ssl_wb.plugin.masker import Grid, Mask

__all__ = ["HealthRule", "ModelShapes", "Need", "Objective", "ObjectiveOutput", "ObjectiveSection", "StepState", "View"]

#: What the pretext model can be asked to compute:
#: ``features``   predictor output at the masked positions (a predictor is built),
#: ``target``     teacher latents at the masked positions (a teacher is built),
#: ``pooled``     clip embedding of each view,
#: ``prediction`` what an earlier objective predicted for the masked positions,
#: ``layers``     output of every teacher block (a teacher is built),
#: ``mlp_outputs`` output of every teacher block's MLP before it is added to its input (a teacher is built),
#: ``captions``   caption embeddings of the clips (the data must have captions).
#: ``branches`` is the old name of ``mlp_outputs``.
Need = Literal["features", "target", "pooled", "prediction", "layers", "mlp_outputs", "branches", "captions"]


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


@dataclass
class View:
    """One view: the batch under one mask, and what the model computed from it.

    What no objective of the recipe needs is not computed, and None stands in its place; an objective may rely on what
    its own ``needs`` names, and so the types say Tensor.

    Attributes:
        mask: the visible and masked patches.
        latents: ``[B, Nv, D]`` student latents of the visible patches (prefix tokens dropped).
        patches: ``[B, N, P]`` pixels of the clip as this view hears it: its own where each view is augmented apart.
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

    @property
    def branches(self) -> tuple[Tensor, ...]:
        """Old name of ``mlp_outputs``."""
        warnings.warn("View.branches is now View.mlp_outputs", DeprecationWarning, stacklevel=2)
        return self.mlp_outputs

    @property
    def finish(self) -> Callable[[Tensor], Tensor]:
        """Old name of ``final_norm``."""
        warnings.warn("View.finish is now View.final_norm", DeprecationWarning, stacklevel=2)
        return self.final_norm


@dataclass
class StepState:
    """Everything of one training step that an objective may read.

    Attributes:
        grid: the patch grid.
        views: one per mask.
        step: optimiser steps done before this one.
        total_steps: optimiser steps of the run.
        measure: whether health figures are wanted this step; they cost time, so compute them only then.
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


@dataclass
class ObjectiveOutput:
    """What an objective returns.

    Attributes:
        loss: float32 scalar, mean over clips and patches.
        metrics: detached scalars by name: parts of the loss and, when ``state.measure``, health figures.
        prediction: one ``[B, Nm, D]`` per view, handed to the objectives after this one; None hands nothing on.
    """

    loss: Tensor
    metrics: dict[str, Tensor | float] = field(default_factory=dict)
    prediction: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class HealthRule:
    """A figure that tells collapse, and the level at which it does.

    The rule fires when ``metric`` stays below ``below`` (or above ``above``) in several measured steps in a row.

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
    def collapse(cls, metric: str, what: str) -> HealthRule:
        """Return the rule of a spread of directions over patches that vanishes.

        Args:
            metric: a :func:`ssl_wb.api.direction_std`.
            what: of what it is the spread, in the plural, as "the predictions".
        """
        return cls(
            metric,
            f"{what} are nearly the same for every patch: the representation is collapsing "
            "(lower the learning rate, raise the teacher's decay, or mask less)",
            below=0.02,
        )


class ObjectiveSection(PluginSection):
    """A recipe's section ``[[objective]]``."""

    weight: float = Field(
        1.0,
        ge=0.0,
        description="Factor of the loss in the total; 0 keeps the objective's part in the cascade.",
    )


class Objective(Plugin, nn.Module, ABC):
    """A loss over the step's state.

    A module: its heads are trained with the student. Heads run under the caller's autocast, losses in float32.
    """

    kind: ClassVar[Kind] = "objective"
    #: What the pretext model must compute for this objective; options may change it for an instance.
    needs: frozenset[Need] = frozenset()
    #: What it hands to later objectives.
    provides: ClassVar[frozenset[Need]] = frozenset()

    def __init__(self, options: PluginOptions, shapes: ModelShapes) -> None:
        nn.Module.__init__(self)
        self.options = options
        self.shapes = shapes

    @abstractmethod
    def forward(self, state: StepState) -> ObjectiveOutput:
        """Compute the loss of one (micro-)batch."""

    def after_step(self, step: int, total_steps: int) -> None:
        """Move the objective's own EMA or centre, once per optimiser step, after it.

        Args:
            step: optimiser steps done, this one included.
            total_steps: optimiser steps of the run.
        """

    def uncertainty(self, view: View) -> Tensor | None:
        """Say how far this objective's own predictions for a masked patch lie apart.

        Args:
            view: with ``features`` at least.

        Returns:
            float32 ``[B, Nm]``, or None from an objective that predicts one thing only.
        """
        return None

    def assignments(self, latents: Tensor) -> Tensor | None:
        """Say to which of its own classes this objective assigns patches, as it does in training.

        Args:
            latents: ``[B, N, D]`` of the patches: the teacher's where the run has a teacher, else the student's.

        Returns:
            float32 ``[B, N, K]``, each patch's probabilities of K classes, or None from an objective without classes.
        """
        return None

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Figures among the metrics that tell collapse."""
        return ()

"""Self-distilled classification: classify each prediction as the teacher classifies its target (DINO, MATPAC)."""

from __future__ import annotations

import copy
import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.api import (
    Duration,
    Field,
    HealthRule,
    Metrics,
    ModelShapes,
    Objective,
    ObjectiveOutput,
    PluginOptions,
    StepMean,
    StepState,
    ema_update,
    feature_std,
    full_precision,
    hookimpl,
    linear_schedule,
    steps_of,
    unit_vectors,
)


class DinoOptions(PluginOptions):
    """Options of the classification objective."""

    prototypes: int = Field(2048, ge=2, description="Classes K.")
    hidden: int = Field(2048, ge=1, description="Width of the head's two hidden layers.")
    bottleneck: int = Field(256, ge=1, description="Width the head normalises before the prototypes.")
    student_temperature: float = Field(0.1, gt=0.0, description="Temperature of the student's softmax.")
    teacher_temperature: list[Annotated[float, Field(gt=0.0)]] = Field(
        default_factory=lambda: [0.04, 0.07],
        min_length=2,
        max_length=2,
        description="Temperature of the teacher's softmax at the first step and after its warm-up, linear between.",
    )
    teacher_warmup: Duration = Field(
        1 / 30, description="Warm-up of the teacher's temperature (paper: 10 of 300 epochs)."
    )
    center: Literal["logits", "probabilities"] = Field(
        "logits",
        description="The centre averages the teacher's logits (the papers), or its probabilities (MATPAC's "
        "released code).",
    )
    center_momentum: float = Field(0.9, ge=0.0, le=1.0, description="EMA factor of the centre per step.")
    head_decay: list[Annotated[float, Field(ge=0.0, le=1.0)]] = Field(
        default_factory=lambda: [0.998, 1.0],
        min_length=2,
        max_length=2,
        description="EMA decay of the teacher's head at the first and at the last step, linear between.",
    )


class PrototypeLayer(nn.Module):
    """Weight-normalised linear map without bias: rows of unit direction times a trainable length (from 1)."""

    def __init__(self, dim: int, prototypes: int) -> None:
        super().__init__()
        # Named as by torch's weight_norm, as in released checkpoints. MATPAC trains the lengths, DINO keeps them at 1.
        self.weight_g = nn.Parameter(torch.ones(prototypes, 1))
        self.weight_v = nn.Parameter(torch.empty(prototypes, dim))
        nn.init.trunc_normal_(self.weight_v, std=0.02)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[..., dim]`` to ``[..., prototypes]``."""
        return F.linear(features, self.weight_g * F.normalize(self.weight_v, dim=1))


class DinoHead(nn.Module):
    """Three linear layers with GELU between, L2 normalisation, prototypes."""

    def __init__(self, dim: int, options: DinoOptions) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, options.hidden),
            nn.GELU(),
            nn.Linear(options.hidden, options.bottleneck),
        )
        self.last_layer = PrototypeLayer(options.bottleneck, options.prototypes)
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``[..., D]`` to logits ``[..., K]``, cosines times the prototypes' lengths."""
        bottleneck = unit_vectors(self.mlp(features))  # [..., bottleneck]
        # Logits are divided by temperatures down to 0.04: a half-precision rounding of 0.002 would become 0.05 there.
        with full_precision(features.device):
            return self.last_layer(bottleneck)


def teacher_probabilities(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Return softmax((logits - centre) / temperature) of teacher logits ``[..., K]``, centre ``[K]``, in float32."""
    # The centre lowers the classes that are chosen often, against one class for all patches; the low temperature makes
    # the classes distinct, against all classes for each patch. DINO needs both, they balance each other.
    return ((logits.float() - center) / temperature).softmax(dim=-1)


def cross_entropy(student_logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """Return ``-sum_k P log softmax(student / temperature)`` as ``[...]``; both arguments ``[..., K]``."""
    return -(probabilities * (student_logits.float() / temperature).log_softmax(dim=-1)).sum(dim=-1)


class Dino(Objective):
    """Classifies each predicted patch as the teacher classifies its target.

    loss = mean over masked patches of -sum_k P_k log Q_k with P = softmax((h_teacher(target) - C) / t_teacher) and
    Q = softmax(h_student(prediction) / t_student). The teacher's head is an EMA of the student's; the centre C is an
    EMA of the teacher's output over patches, clips and processes, applied from the next step on.
    """

    name = "dino"
    reference = "MATPAC, arXiv 2502.12031, equations 2-4; DINO, arXiv 2104.14294"
    Options = DinoOptions
    options: DinoOptions
    needs = frozenset({"prediction", "target"})

    def __init__(self, options: DinoOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        self.student_head = DinoHead(shapes.latent_dim, options)
        # Equal at first. In MATPAC's release they are not: a later initialisation redraws the student's head only.
        self.teacher_head = copy.deepcopy(self.student_head).requires_grad_(False)
        self.center: Tensor
        self.register_buffer("center", torch.zeros(options.prototypes))
        self._batch_center = StepMean()  # of mean teacher outputs [K]

    def temperature_at(self, step: int, total_steps: int) -> float:
        """Return the teacher's temperature after ``step`` optimiser steps."""
        # Low at first: an untrained teacher's logits hardly differ, and a high temperature would make them uniform.
        start, end = self.options.teacher_temperature
        return linear_schedule(start, end, step, steps_of(self.options.teacher_warmup, total_steps))

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the cross-entropy over patches, clips and views."""
        temperature = self.temperature_at(state.step, state.total_steps)
        outputs = []
        for view in state.views:
            student = self.student_head(view.prediction)  # [B, Nm, K]
            with torch.no_grad():
                logits = self.teacher_head(view.target).float()  # [B, Nm, K]
                # The centre of the steps before this one, as in DINO: that of this batch would need the outputs of all
                # micro-batches and processes first, and the loss would depend on how the batch is split.
                probabilities = teacher_probabilities(logits, self.center, temperature)  # [B, Nm, K]
                if self.training:
                    averaged = logits if self.options.center == "logits" else probabilities
                    self._batch_center.add(averaged.mean(dim=(0, 1)))
            # The gradient reaches predictor and encoder too, through the prediction.
            loss = cross_entropy(student, probabilities, self.options.student_temperature).mean()
            metrics = self._health(student, probabilities) if state.measures(view) else {}
            outputs.append(ObjectiveOutput(loss, metrics))
        output = ObjectiveOutput.over_views(outputs)
        output.metrics["teacher_temperature"] = temperature
        return output

    @torch.no_grad()
    def _health(self, student: Tensor, probabilities: Tensor) -> Metrics:
        """Measure student logits ``[B, Nm, K]`` against teacher probabilities ``[B, Nm, K]``."""
        rows = probabilities.flatten(0, 1)  # [B * Nm, K]
        guesses = (student.detach().float().flatten(0, 1) / self.options.student_temperature).softmax(dim=-1)
        mean = rows.mean(dim=0)  # [K]
        uniform = math.log(self.options.prototypes)  # the largest entropy there is
        entropy = -(rows * rows.clamp_min(1e-12).log()).sum(dim=-1).mean()  # the floor makes 0 log 0 = 0
        choices = rows.argmax(dim=-1)  # [B * Nm]
        return {
            "teacher_entropy": entropy,
            "teacher_entropy_share": entropy / uniform,
            "teacher_largest": rows.max(dim=-1).values.mean(),
            # Number of classes in use: 1 when all patches get the same one, K when all classes are used alike.
            "perplexity": torch.exp(-(mean * mean.clamp_min(1e-12).log()).sum()),
            "prototypes_used": float(torch.bincount(choices, minlength=1).count_nonzero()),
            "agreement": (choices == guesses.argmax(dim=-1)).float().mean(),
            "teacher_std": feature_std(rows),
            "student_std": feature_std(guesses),
        }

    def assignments(self, latents: Tensor) -> Tensor:
        """Return the teacher's classes of patches, float32 ``[B, N, K]``, of its latents ``[B, N, D]``.

        Centred as in the loss, at the temperature after its warm-up.
        """
        return teacher_probabilities(self.teacher_head(latents), self.center, self.options.teacher_temperature[1])

    def after_step(self, step: int, total_steps: int) -> None:
        """Move the teacher's head and the centre."""
        # step - 1: the first update has the first decay. At a decay of 1 the teacher's head stands still.
        start, end = self.options.head_decay
        ema_update(self.teacher_head, self.student_head, linear_schedule(start, end, step - 1, total_steps))
        batch_center = self._batch_center.take()  # [K]
        if batch_center is not None:
            self.center.lerp_(batch_center, 1.0 - self.options.center_momentum)

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Return the rules for the two ways to collapse: one class for all patches, or all classes for each patch."""
        return (
            HealthRule(
                "perplexity",
                "the teacher puts every patch on the same prototype "
                "(check the centre: a lower center_momentum or a higher teacher temperature)",
                below=1.5,
            ),
            HealthRule(
                "teacher_entropy_share",
                "the teacher's classes are uniform, there is nothing to learn from them "
                "(lower teacher_temperature to sharpen it)",
                above=0.995,
                after=0.05,
            ),
        )


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register the classification objective."""
    return [Dino]

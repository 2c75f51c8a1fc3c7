"""Masked latent prediction."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.api import (
    Field,
    HealthRule,
    ModelShapes,
    Objective,
    ObjectiveOutput,
    PluginOptions,
    StepState,
    direction_std,
    effective_rank,
    hookimpl,
    initialise,
    standardise_rows,
)


class MalapOptions(PluginOptions):
    """Options of masked latent prediction."""

    target: Literal["l2", "standardised"] = Field(
        "l2",
        description="Teacher latents as they are (MATPAC), or standardised per patch over features first (M2D).",
    )


def latent_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Return ``2 - 2 cos`` of predictions ``[..., D]`` and targets ``[..., D]`` as ``[...]``, in float32."""
    direction = F.normalize(prediction.float(), dim=-1)
    return 2.0 - 2.0 * (direction * F.normalize(target.float(), dim=-1)).sum(dim=-1)


class Malap(Objective):
    """Predicts the teacher's latents of the masked patches: mean over patches of 2 - 2 cos(prediction, target).

    One linear map from the predictor's features to the latent width; the prediction is handed on to later objectives.
    """

    name = "malap"
    reference = "MATPAC, arXiv 2502.12031, equation 1 (target = 'l2'); M2D, arXiv 2210.14648 (target = 'standardised')"
    Options = MalapOptions
    options: MalapOptions
    needs = frozenset({"features", "target"})
    provides = frozenset({"prediction"})

    def __init__(self, options: MalapOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        self.head = nn.Linear(shapes.feature_dim, shapes.latent_dim)
        self.apply(initialise)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the distance over patches, clips and views."""
        predictions: list[Tensor] = []
        losses: list[Tensor] = []
        metrics: dict[str, Tensor | float] = {}
        for view in state.views:
            prediction = self.head(view.features)  # [B, Nm, D]
            target = view.target if self.options.target == "l2" else standardise_rows(view.target)
            losses.append(latent_distance(prediction, target).mean())
            predictions.append(prediction)
        loss = torch.stack(losses).mean()
        if state.measure:
            target = state.views[0].target
            metrics = {
                "prediction_std": direction_std(predictions[0]),
                "target_std": direction_std(target),
                "target_rank": effective_rank(target),
            }
        return ObjectiveOutput(loss, metrics, tuple(predictions))

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Latents or predictions that no longer differ from patch to patch."""
        return (
            HealthRule(
                "prediction_std",
                "the predictions are nearly the same for every patch: the representation is collapsing "
                "(lower the learning rate, raise the teacher's decay, or mask less)",
                below=0.02,
            ),
        )


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register masked latent prediction."""
    return [Malap]

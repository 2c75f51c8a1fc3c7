"""Masked latent prediction."""

from __future__ import annotations

from typing import Annotated, Literal

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
    UsageError,
    View,
    direction_std,
    effective_rank,
    gather_rows,
    hookimpl,
    initialise,
    standardise_rows,
)


class MalapOptions(PluginOptions):
    """Options of masked latent prediction."""

    target: Literal["l2", "standardised", "layers"] = Field(
        "l2",
        description="Teacher latents as they are (MATPAC); standardised per patch over features (M2D); or the mean of "
        "several teacher blocks, normed and standardised (M2D's target layers).",
    )
    layers: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list,
        description="Teacher blocks averaged by target = 'layers', counted from 1; all of them when empty.",
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
        if options.target == "layers":
            self.needs = frozenset({"features", "layers"})
        self.head = nn.Linear(shapes.feature_dim, shapes.latent_dim)
        self.apply(initialise)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the distance over patches, clips and views."""
        predictions: list[Tensor] = []
        targets: list[Tensor] = []
        losses: list[Tensor] = []
        metrics: dict[str, Tensor | float] = {}
        for view in state.views:
            prediction = self.head(view.features)  # [B, Nm, D]
            targets.append(self._target(view))
            losses.append(latent_distance(prediction, targets[-1]).mean())
            predictions.append(prediction)
        loss = torch.stack(losses).mean()
        if state.measure:
            # Standardising a collapsed target would blow its noise up, and hide the collapse.
            target = targets[0] if self.options.target == "layers" else state.views[0].target
            metrics = {
                "prediction_std": direction_std(predictions[0]),
                "target_std": direction_std(target),
                "target_rank": effective_rank(target),
            }
        return ObjectiveOutput(loss, metrics, tuple(predictions))

    def _target(self, view: View) -> Tensor:
        """Return what is predicted, ``[B, Nm, D]``."""
        if self.options.target == "l2":
            return view.target
        if self.options.target == "standardised":
            return standardise_rows(view.target)
        chosen = [view.layers[number - 1] for number in self._chosen(len(view.layers))]  # each [B, K, D]
        mean = view.final_norm(torch.stack(chosen).mean(dim=0)).detach()  # [B, K, D]
        return standardise_rows(mean if self.shapes.teacher_sees == "masked" else gather_rows(mean, view.mask.masked))

    def _chosen(self, depth: int) -> list[int]:
        """Return the numbers of the averaged blocks; UsageError when the teacher has fewer."""
        wanted = self.options.layers or list(range(1, depth + 1))
        if max(wanted) > depth:
            raise UsageError(
                f"objective 'malap': layers names block {max(wanted)}, the teacher has {depth}",
                hint=f"give numbers from 1 to {depth}",
            )
        return wanted

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Latents or predictions that no longer differ from patch to patch."""
        return (HealthRule.collapse("prediction_std", "the predictions"),)


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register masked latent prediction."""
    return [Malap]

"""Masked latent prediction: predict the teacher's latents of the masked patches (M2D, MATPAC)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

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
    collapse_figures,
    gather_rows,
    hookimpl,
    initialise,
    standardise_rows,
    unit_vectors,
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
    distance: Literal["cosine", "mse"] = Field(
        "cosine", description="2 - 2 cos of prediction and target, or their mean squared difference (M2D's plain MSE)."
    )


def latent_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Return ``2 - 2 cos`` of predictions ``[..., D]`` and targets ``[..., D]`` as ``[...]``, in float32."""
    # Equal to the squared distance of the two unit vectors: 0 for the same direction, 4 for opposite ones.
    return 2.0 - 2.0 * (unit_vectors(prediction) * unit_vectors(target)).sum(dim=-1)


class Malap(Objective):
    """Predicts the teacher's latents of the masked patches: mean over patches of 2 - 2 cos(prediction, target), or of
    their squared difference.

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
            # Asked for only here: the outputs of all blocks then stay in memory until the losses are computed.
            self.needs = frozenset({"features", "layers"})
        self.head = nn.Linear(shapes.feature_dim, shapes.latent_dim)
        self.apply(initialise)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the distance over patches, clips and views."""
        outputs = []
        for view in state.views:
            prediction = self.head(view.features)  # [B, Nm, D]
            target = self._target(view)  # [B, Nm, D]
            loss = self._distance(prediction, target).mean()
            # Figures are taken of the target before it is standardised. Standardising a collapsed target would blow up
            # its noise and hide the collapse. With target = 'layers' there is only the standardised one.
            raw = target if self.options.target == "layers" else view.target
            metrics = collapse_figures(prediction, raw) if state.measures(view) else {}
            # With its gradient: what a later objective makes of the prediction trains predictor and student as well.
            outputs.append(ObjectiveOutput(loss, metrics, (prediction,)))
        return ObjectiveOutput.over_views(outputs)

    def _distance(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare predictions ``[B, Nm, D]`` with targets ``[B, Nm, D]``, in float32."""
        if self.options.distance == "cosine":
            return latent_distance(prediction, target)
        return (prediction.float() - target.float()).square()

    def _target(self, view: View) -> Tensor:
        """Return what is predicted, ``[B, Nm, D]``, without gradient."""
        if self.options.target == "l2":
            return view.target
        if self.options.target == "standardised":
            return standardise_rows(view.target)
        depth = len(view.layers)
        numbers = self.options.layers or range(1, depth + 1)
        if max(numbers) > depth:
            raise UsageError(
                f"objective 'malap': layers names block {max(numbers)}, the teacher has {depth}",
                hint=f"give numbers from 1 to {depth}",
            )
        blocks = torch.stack([view.layers[number - 1] for number in numbers])  # [blocks, B, K, D]
        # The teacher's own final norm, applied to the mean as it is to its last block.
        mean = view.final_norm(blocks.mean(dim=0)).detach()  # [B, K, D]
        # A teacher that sees the masked patches gives K = Nm rows in their order; one that sees all gives K = N.
        return standardise_rows(mean if self.shapes.teacher_sees == "masked" else gather_rows(mean, view.mask.masked))

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Return the rule for predictions that no longer differ from patch to patch."""
        return (HealthRule.collapse("prediction_std", "the predictions"),)


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register masked latent prediction."""
    return [Malap]

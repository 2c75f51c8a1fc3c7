"""Reconstruction of the masked patches' pixels."""

from __future__ import annotations

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
    gather_rows,
    hookimpl,
    initialise,
    standardise_rows,
)


class ReconstructionOptions(PluginOptions):
    """Options of reconstruction."""

    norm_patch: bool = Field(
        False, description="Standardise each target patch over its pixels (AudioMAE); MSM-MAE does not."
    )


class Reconstruction(Objective):
    """Predicts the pixels of the masked patches: mean squared error over pixels, patches and clips.

    One linear map from the predictor's features to the pixels of the normalised spectrogram; no teacher.
    """

    name = "reconstruction"
    reference = "MSM-MAE, arXiv 2204.12260, section 3 (norm_patch = false); AudioMAE, arXiv 2207.06405 (true)"
    Options = ReconstructionOptions
    options: ReconstructionOptions
    needs = frozenset({"features"})

    def __init__(self, options: ReconstructionOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        self.head = nn.Linear(shapes.feature_dim, shapes.patch_pixels)
        self.apply(initialise)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the squared error over views."""
        losses: list[Tensor] = []
        metrics: dict[str, Tensor | float] = {}
        for number, view in enumerate(state.views):
            target = gather_rows(view.patches, view.mask.masked).float()  # [B, Nm, P]
            if self.options.norm_patch:
                target = standardise_rows(target)
            prediction = self.head(view.features).float()  # [B, Nm, P]
            losses.append((prediction - target).square().mean())
            if state.measure and number == 0:
                metrics["explained"] = 1.0 - losses[0].detach() / target.var().clamp_min(1e-12)
                metrics["prediction_std"] = prediction.detach().flatten(0, 1).std(dim=0, unbiased=False).mean()
        return ObjectiveOutput(torch.stack(losses).mean(), metrics)

    def health_rules(self) -> tuple[HealthRule, ...]:
        """A predictor that answers the same for every patch."""
        return (
            HealthRule(
                "prediction_std",
                "the reconstruction is nearly the same for every patch: nothing is learnt of what is heard "
                "(raise the learning rate, lengthen the run, or mask less)",
                below=0.02,
                after=0.1,
            ),
        )


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register reconstruction."""
    return [Reconstruction]

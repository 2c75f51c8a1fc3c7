"""Reconstruction: predict the pixels of the masked patches (MAE, MSM-MAE, AudioMAE)."""

from __future__ import annotations

from torch import nn

from ssl_wb.api import (
    Field,
    HealthRule,
    Metrics,
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
        """Average the squared error over pixels, patches, clips and views."""
        outputs = []
        for view in state.views:
            # Masked patches only: MAE found that a loss on visible patches too gives worse encoders.
            target = gather_rows(view.patches, view.mask.masked).float()  # [B, Nm, P]
            if self.options.norm_patch:
                # Takes a patch's loudness away, so that its inner contrast counts as much in quiet patches.
                target = standardise_rows(target)
            prediction = self.head(view.features).float()  # [B, Nm, P]
            loss = (prediction - target).square().mean()
            metrics: Metrics = {}
            if state.measures(view):
                # Share of the pixels' variance that is predicted: 0 for the mean of all pixels, 1 for a perfect copy.
                metrics["explained"] = 1.0 - loss.detach() / target.var().clamp_min(1e-12)
                metrics["prediction_std"] = prediction.detach().flatten(0, 1).std(dim=0, unbiased=False).mean()
            outputs.append(ObjectiveOutput(loss, metrics))
        return ObjectiveOutput.over_views(outputs)

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Return the rule for a predictor that gives the same answer for every patch."""
        return (
            HealthRule(
                "prediction_std",
                "the reconstruction is nearly the same for every patch: nothing is learnt of what is heard "
                "(raise the learning rate, lengthen the run, or mask less)",
                below=0.02,
                after=0.1,  # it starts near 0: the mean spectrogram is what a predictor learns first
            ),
        )


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register reconstruction."""
    return [Reconstruction]

"""EAT: frames and utterance, predicted from many masked readings of each clip."""

from __future__ import annotations

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
)


class EatOptions(PluginOptions):
    """Options of EAT's objective."""

    utterance_weight: float = Field(
        1.0,
        ge=0.0,
        description="Weight of the utterance loss beside the frame loss, both means. In the release it counts once for "
        "every masked reading on a process: 192 at the published 12 clips x 16 masks.",
    )
    average: int | None = Field(
        None, ge=1, description="Last teacher blocks averaged into the target; all of them unless given."
    )


def averaged_target(mlp_outputs: tuple[Tensor, ...]) -> Tensor:
    """Return data2vec 2.0's target of teacher outputs ``[B, N, D]``, one per block, as float32 ``[B, N, D]``.

    Each block's output is standardised per clip and feature over the patches, the mean of them per patch over features.
    """
    normed = [F.instance_norm(output.float().transpose(1, 2)).transpose(1, 2) for output in mlp_outputs]
    mean = torch.stack(normed).mean(dim=0)  # [B, N, D]
    return F.layer_norm(mean, mean.shape[-1:])


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the squared errors of ``[..., D]`` summed over features and divided by sqrt(D), ``[...]``, in float32."""
    return (prediction.float() - target).square().sum(dim=-1) / target.shape[-1] ** 0.5


class Eat(Objective):
    """Predicts averaged teacher features of every masked patch, and their mean over the clip from the clip embedding.

    target = layer-norm of the mean over blocks of the instance-normed outputs of the teacher's MLPs, on the whole clip.
    loss = mean over masked patches of |prediction - target|^2 / sqrt(D) + utterance_weight * the same of the clip
    embedding and the target's mean over patches. Needs ``teacher.sees = "all"``; EAT's clip embedding is the class
    token (``backbone.pool = "class"``) and its masker gives many views, for all of which the teacher runs once. The sum
    over features is data2vec 2.0's; the paper writes a mean.
    """

    name = "eat"
    reference = "EAT, arXiv 2401.03497, sections 2.2 and 2.3; data2vec 2.0, arXiv 2212.07525"
    Options = EatOptions
    options: EatOptions
    needs = frozenset({"features", "pooled", "mlp_outputs"})

    def __init__(self, options: EatOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        if shapes.teacher_sees != "all":
            raise ValueError("its target is the teacher's reading of the whole clip; set teacher.sees = 'all'")
        self.head = nn.Linear(shapes.feature_dim, shapes.latent_dim)
        self.apply(initialise)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average frame and utterance losses over patches, clips and views."""
        frames: list[Tensor] = []
        utterances: list[Tensor] = []
        metrics: dict[str, Tensor | float] = {}
        shared: dict[int, Tensor] = {}  # views of one reading have one target
        depth = len(state.views[0].mlp_outputs)
        if (self.options.average or 0) > depth:
            raise UsageError(
                f"objective 'eat': average names {self.options.average} blocks, the teacher has {depth}",
                hint=f"give a number from 1 to {depth}",
            )
        for number, view in enumerate(state.views):
            key = id(view.mlp_outputs[-1])
            if key not in shared:
                shared[key] = averaged_target(view.mlp_outputs[-(self.options.average or len(view.mlp_outputs)) :])
            target = shared[key]  # [B, N, D]
            prediction = self.head(view.features)  # [B, Nm, D]
            frames.append(squared_error(prediction, gather_rows(target, view.mask.masked)).mean())
            utterances.append(squared_error(view.pooled, target.mean(dim=1)).mean())
            if state.measure and number == 0:
                metrics |= self._health(prediction, target, view)
        frame, utterance = torch.stack(frames).mean(), torch.stack(utterances).mean()
        metrics |= {"frame": frame.detach(), "utterance": utterance.detach()}
        return ObjectiveOutput(frame + self.options.utterance_weight * utterance, metrics)

    @torch.no_grad()
    def _health(self, prediction: Tensor, target: Tensor, view: View) -> dict[str, Tensor | float]:
        """Measure predictions ``[B, Nm, D]`` and targets ``[B, N, D]``.

        The target has unit variance per patch by construction, so its spread is measured on the teacher's raw output.
        """
        return {
            "prediction_std": direction_std(prediction),
            "target_std": direction_std(view.mlp_outputs[-1]),
            "target_rank": effective_rank(target),
            "pooled_std": direction_std(view.pooled[:, None]),
        }

    def health_rules(self) -> tuple[HealthRule, ...]:
        """A teacher that says the same of every patch."""
        return (HealthRule.collapse("target_std", "the teacher's features"),)


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register EAT's objective."""
    return [Eat]

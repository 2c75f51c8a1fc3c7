"""EAT: predict averaged teacher features, per patch and per clip, from many masked views of each clip."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.api import (
    Field,
    HealthRule,
    Metrics,
    ModelShapes,
    Objective,
    ObjectiveOutput,
    PluginOptions,
    StepState,
    UsageError,
    collapse_figures,
    direction_std,
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
    init: Literal["xavier", "torch"] = Field(
        "xavier", description="Initial weights of the linear map: Xavier-uniform, or torch's own (EAT's release)."
    )


def averaged_target(mlp_outputs: tuple[Tensor, ...]) -> Tensor:
    """Return data2vec 2.0's target of teacher outputs ``[B, N, D]``, one per block, as float32 ``[B, N, D]``.

    Each block's output is standardised per clip and feature over the patches, the mean of them per patch over features.
    """
    # Blocks have outputs of very different size: without the first norm the largest one would be the whole mean.
    # instance_norm wants the features in front: [B, D, N].
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
            # The first norm of the target and the utterance target are taken over all patches of the clip.
            raise ValueError("its target is the teacher's reading of the whole clip; set teacher.sees = 'all'")
        self.head = nn.Linear(shapes.feature_dim, shapes.latent_dim)
        if options.init == "xavier":
            self.apply(initialise)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average frame and utterance losses over patches, clips and views."""
        depth = len(state.views[0].mlp_outputs)
        average = self.options.average or depth
        if average > depth:
            raise UsageError(
                f"objective 'eat': average names {average} blocks, the teacher has {depth}",
                hint=f"give a number from 1 to {depth}",
            )
        frames: list[Tensor] = []
        utterances: list[Tensor] = []
        metrics: Metrics = {}
        # Up to 64 views may share one pass of the teacher, and then one target: it is computed once for all of them.
        targets: dict[int, Tensor] = {}
        for view in state.views:
            outputs = view.mlp_outputs  # of each block [B, N, D]
            if id(outputs[-1]) not in targets:
                targets[id(outputs[-1])] = averaged_target(outputs[-average:])
            target = targets[id(outputs[-1])]  # [B, N, D]
            prediction = self.head(view.features)  # [B, Nm, D]
            frames.append(squared_error(prediction, gather_rows(target, view.mask.masked)).mean())
            utterances.append(squared_error(view.pooled, target.mean(dim=1)).mean())
            if state.measures(view):
                metrics |= collapse_figures(prediction, target)
                # The target has unit variance per patch by construction: the spread is that of the teacher's output.
                metrics["target_std"] = direction_std(outputs[-1])
                metrics["pooled_std"] = direction_std(view.pooled)
        frame, utterance = torch.stack(frames).mean(), torch.stack(utterances).mean()
        metrics |= {"frame": frame.detach(), "utterance": utterance.detach()}
        return ObjectiveOutput(frame + self.options.utterance_weight * utterance, metrics)

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Return the rule for a teacher whose features no longer differ from patch to patch."""
        return (HealthRule.collapse("target_std", "the teacher's features"),)


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register EAT's objective."""
    return [Eat]

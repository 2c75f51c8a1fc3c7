"""An objective: a loss, and what it needs of the step."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ssl_wb.api import Field, ModelShapes, Objective, ObjectiveOutput, PluginOptions, StepState, hookimpl


class NewPluginOptions(PluginOptions):
    """Options: every one has bounds and a description."""

    beta: float = Field(1.0, gt=0.0, description="Distance at which the loss turns from square to linear.")


class NewPlugin(Objective):
    """Predicts the teacher's latents of the masked patches with a smooth L1 loss.

    The help of ``ssl_wb.api.Objective`` lists what ``needs`` may name.
    """

    name = "new-plugin"
    reference = ""
    Options = NewPluginOptions
    options: NewPluginOptions
    needs = frozenset({"features", "target"})

    def __init__(self, options: NewPluginOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        self.head = nn.Linear(shapes.feature_dim, shapes.latent_dim)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the loss over clips, patches and views."""
        losses = []
        for view in state.views:
            prediction = self.head(view.features).float()  # [B, Nm, D]
            losses.append(F.smooth_l1_loss(prediction, view.target.float(), beta=self.options.beta))  # []
        return ObjectiveOutput(torch.stack(losses).mean())


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Offer this objective."""
    return [NewPlugin]

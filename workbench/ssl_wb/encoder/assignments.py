"""What a run's objectives say of patches: to which of their own classes they assign them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ssl_wb.plugin.masker import Grid
from ssl_wb.plugin.objective import Objective
from ssl_wb.pretext.model import PretextModel

__all__ = ["Assigner", "has_classes"]


def has_classes(objective: type[Objective]) -> bool:
    """Whether a kind of objective may have classes, so that its weights are worth loading."""
    return objective.assignments is not Objective.assignments


class Assigner(nn.Module):
    """Asks the objectives of a pretext model for the classes of patches.

    The teacher reads all patches of a chunk, embedded by the student as in training, where it may see a share of them
    only; without a teacher the student reads them.
    """

    def __init__(self, model: PretextModel) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.trunk = model.backbone.trunk if model.teacher is None else model.teacher
        self.objectives = nn.ModuleDict(
            {label: one for label, one in model.objectives.items() if has_classes(cast(type[Objective], type(one)))}
        )
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, patches: Tensor, grid: Grid) -> dict[str, Tensor]:
        """Return each patch's probabilities ``[n, N, K]`` of chunks ``[n, N, P]``, by the objective's label."""
        latents = self.trunk(self.backbone.embed(patches, grid))[:, self.backbone.prefix_tokens :]  # [n, N, D]
        told = {label: cast(Objective, one).assignments(latents) for label, one in self.objectives.items()}
        return {label: values for label, values in told.items() if values is not None}

"""Class probabilities of patches, from the objectives of a run that have classes (prototypes, clusters)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ssl_wb.plugin.masker import Grid
from ssl_wb.plugin.objective import Objective
from ssl_wb.pretext.model import PretextModel

__all__ = ["Assigner", "has_classes"]


def has_classes(objective: type[Objective]) -> bool:
    """Whether an objective implements ``assignments``; only then are its weights worth loading."""
    return objective.assignments is not Objective.assignments


class Assigner(nn.Module):
    """Computes the class probabilities of patches with a run's pretext model.

    The latents are the teacher's where the run has a teacher, because that is what the objectives classified in
    training. The teacher encodes all patches, embedded by the student or by itself, also as in training.
    """

    def __init__(self, model: PretextModel) -> None:
        super().__init__()
        self.backbone = model.teacher_embedding
        self.trunk = model.teacher_trunk or model.backbone.trunk
        self.objectives = nn.ModuleDict(
            {label: one for label, one in model.objectives.items() if has_classes(cast(type[Objective], type(one)))}
        )
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, patches: Tensor, grid: Grid) -> dict[str, Tensor]:
        """Return the probabilities ``[n, N, K]`` of the patches ``[n, N, P]`` of n chunks, by the objective's label."""
        latents = self.trunk(self.backbone.embed(patches, grid))[:, self.backbone.prefix_tokens :]  # [n, N, D]
        found = {label: cast(Objective, one).assignments(latents) for label, one in self.objectives.items()}
        return {label: probabilities for label, probabilities in found.items() if probabilities is not None}

"""What the EMA teacher computes for the objectives."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_wb.layers.parts import part
from ssl_wb.layers.patches import Grid, gather_rows
from ssl_wb.plugin.backbone import Backbone, Trunk, final_norm_of
from ssl_wb.plugin.objective import Need

__all__ = ["TEACHER_NEEDS", "TeacherOutputs", "run_teacher"]

#: Needs for which a teacher is built.
TEACHER_NEEDS: frozenset[Need] = frozenset({"target", "layers", "mlp_outputs"})


@dataclass(frozen=True)
class TeacherOutputs:
    """Teacher latents of some patches and, where an objective needs them, its blocks' outputs; ``[B, K, D]`` each."""

    latents: Tensor
    layers: tuple[Tensor, ...] = ()
    mlp_outputs: tuple[Tensor, ...] = ()

    def split(self, views: int) -> list[TeacherOutputs]:
        """Undo the joining of views along the batch axis: ``[views * B, K, D]`` to a ``[B, K, D]`` for each view."""
        layers = [layer.chunk(views) for layer in self.layers]
        mlp_outputs = [output.chunk(views) for output in self.mlp_outputs]
        return [
            TeacherOutputs(latents, tuple(each[view] for each in layers), tuple(each[view] for each in mlp_outputs))
            for view, latents in enumerate(self.latents.chunk(views))
        ]

    def at(self, masked: Tensor) -> TeacherOutputs:
        """Take the latents at ``masked``, int64 ``[B, Nm]``; layers and MLP outputs stay those of all patches."""
        return TeacherOutputs(gather_rows(self.latents, masked), self.layers, self.mlp_outputs)


@torch.no_grad()
def run_teacher(
    teacher: Trunk, backbone: Backbone, needs: Collection[Need], patches: Tensor, grid: Grid, indices: Tensor | None
) -> TeacherOutputs:
    """Encode patches with the teacher.

    The embedding is the student's own, with its current weights: M2D and MATPAC share it and average the trunk only.

    Args:
        teacher: EMA copy of the backbone's trunk.
        backbone: the student's, for the embedding.
        needs: what the objectives need; layers and MLP outputs are kept only for those who ask.
        patches: ``[B, N, P]``.
        grid: their grid.
        indices: int64 ``[B, K]``, the patches to encode; all when None.
    """
    with part("teacher"):
        prefix = backbone.prefix_tokens
        tokens = backbone.embed(patches, grid, indices)  # [B, prefix + K, D]
        if "mlp_outputs" in needs:
            layers, mlp_outputs = teacher.layers_and_mlp_outputs(tokens)
        elif "layers" in needs:
            layers, mlp_outputs = teacher.layers(tokens), []
        else:
            return TeacherOutputs(teacher(tokens)[:, prefix:])
        latents = final_norm_of(teacher)(layers[-1])[:, prefix:]  # [B, K, D]
        return TeacherOutputs(
            latents, tuple(each[:, prefix:] for each in layers), tuple(each[:, prefix:] for each in mlp_outputs)
        )

"""What the EMA teacher computes for the objectives."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssl_wb.layers.ema import linear_schedule
from ssl_wb.layers.parts import part
from ssl_wb.layers.patches import Grid, gather_rows
from ssl_wb.plugin.backbone import Backbone, Trunk, final_norm_of
from ssl_wb.plugin.base import steps_of
from ssl_wb.plugin.objective import Need
from ssl_wb.recipe.schema import TeacherSection

__all__ = ["TEACHER_NEEDS", "TeacherOutputs", "kept_share", "new_teacher", "run_teacher", "teacher_decay"]

#: Needs for which a teacher is built.
TEACHER_NEEDS: frozenset[Need] = frozenset({"target", "layers", "mlp_outputs"})


def new_teacher(backbone: Backbone, section: TeacherSection) -> Trunk | Backbone:
    """Make the teacher as it is before the first step: a trunk, or a whole backbone, without gradient."""
    average = copy.deepcopy(backbone.trunk if section.averages == "trunk" else backbone)
    if section.init == "independent":
        (average.trunk if isinstance(average, Backbone) else average).reset_parameters()
    return average.requires_grad_(False).eval()


def teacher_decay(section: TeacherSection, step: int, total_steps: int) -> float:
    """Return the EMA decay of the update at ``step``, counted from 0."""
    start, end = section.decay
    over = steps_of(section.decay_over, total_steps)
    return linear_schedule(start, end, step, over if section.decay_end == "after" else max(1, over - 1))


@dataclass(frozen=True)
class TeacherOutputs:
    """Teacher latents of all patches or the masked ones and, where needed, its blocks' outputs; ``[B, K, D]`` each."""

    latents: Tensor
    layers: tuple[Tensor, ...] = ()
    mlp_outputs: tuple[Tensor, ...] = ()
    of_all: bool = True

    def split(self, views: int) -> list[TeacherOutputs]:
        """Undo the joining of views along the batch axis: ``[views * B, K, D]`` to a ``[B, K, D]`` for each view."""
        layers = [layer.chunk(views) for layer in self.layers]
        mlp_outputs = [output.chunk(views) for output in self.mlp_outputs]
        return [
            replace(
                self,
                latents=latents,
                layers=tuple(each[view] for each in layers),
                mlp_outputs=tuple(each[view] for each in mlp_outputs),
            )
            for view, latents in enumerate(self.latents.chunk(views))
        ]

    def latents_at(self, masked: Tensor) -> Tensor:
        """Return the latents ``[B, Nm, D]`` of ``masked``, int64 ``[B, Nm]``; all, where no others were computed."""
        return gather_rows(self.latents, masked) if self.of_all else self.latents


@torch.no_grad()
def run_teacher(
    teacher: Trunk, embedding: Backbone, needs: Collection[Need], patches: Tensor, grid: Grid, indices: Tensor | None
) -> TeacherOutputs:
    """Encode patches with the teacher.

    Args:
        teacher: EMA copy of the backbone's trunk.
        embedding: whose embedding: the student's, with its current weights, as M2D and MATPAC share it, or the
            teacher's own average (EAT).
        needs: what the objectives need; layers and MLP outputs are kept only where they are needed.
        patches: ``[B, N, P]``.
        grid: their grid.
        indices: int64 ``[B, K]``, the patches to encode; all when None.
    """
    with part("teacher"):
        prefix = embedding.prefix_tokens
        tokens = embedding.embed(patches, grid, indices)  # [B, prefix + K, D]
        if "mlp_outputs" in needs:
            layers, mlp_outputs = teacher.layers_and_mlp_outputs(tokens)
        elif "layers" in needs:
            layers, mlp_outputs = teacher.layers(tokens), []
        else:
            return TeacherOutputs(teacher(tokens)[:, prefix:], of_all=indices is None)
        latents = final_norm_of(teacher)(layers[-1])[:, prefix:]  # [B, K, D]
        kept = layers if "layers" in needs else []
        return TeacherOutputs(
            latents,
            tuple(each[:, prefix:] for each in kept),
            tuple(each[:, prefix:] for each in mlp_outputs),
            of_all=indices is None,
        )


def kept_share(section: TeacherSection, steps: int) -> float:
    """Return the share of its first weights that the teacher has at the end of a run: the product of all decays."""
    return math.prod(teacher_decay(section, step, steps) for step in range(steps))

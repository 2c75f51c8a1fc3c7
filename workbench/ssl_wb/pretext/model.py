"""The pretext model: everything that is trained, behind one forward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from ssl_wb.contracts.backbone import Backbone
from ssl_wb.contracts.masker import Grid, Mask, Masker, MaskRequest
from ssl_wb.contracts.objective import HealthRule, ModelShapes, Need, Objective, StepState, View
from ssl_wb.layers.ema import ema_update, linear_schedule
from ssl_wb.layers.health import direction_std, effective_rank
from ssl_wb.layers.patches import gather_rows, patchify
from ssl_wb.pretext.predictor import Predictor
from ssl_wb.recipe.schema import TeacherSection

__all__ = ["PretextModel", "PretextOutput", "WeightedObjective"]

#: Seeds of masks are spread by a large odd factor, so that (seed 0, step 1) and (seed 1, step 0) do not meet.
_SEED_STRIDE = 1_000_003


@dataclass
class WeightedObjective:
    """An objective as the recipe names it: label for metrics, weight in the total, module."""

    label: str
    weight: float
    module: Objective


@dataclass
class PretextOutput:
    """Loss of a (micro-)batch and its figures, keyed ``objective.figure``."""

    loss: Tensor
    metrics: dict[str, Tensor | float] = field(default_factory=dict)


class PretextModel(nn.Module):
    """Student, predictor, EMA teacher and objectives.

    A predictor is built when an objective needs features, a teacher when one needs a target; each thing is computed
    once per view, whoever asks.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        masker: Masker,
        predictor: Predictor | None,
        teacher: TeacherSection,
        objectives: Sequence[WeightedObjective],
        shapes: ModelShapes,
        seed: int,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.masker = masker
        self.predictor = predictor
        self.objectives = nn.ModuleDict({each.label: each.module for each in objectives})
        self.weights = {each.label: each.weight for each in objectives}
        self.needs: set[Need] = set().union(*(each.module.needs for each in objectives))
        self.shapes = shapes
        self.seed = seed
        self.teacher_section = teacher
        self.teacher: nn.Module | None = None
        if "target" in self.needs:
            self.teacher = copy.deepcopy(backbone.trunk)
            if teacher.init == "independent":
                self.teacher.reset_parameters()
            self.teacher.requires_grad_(False)

    def forward(
        self,
        spectrogram: Tensor,
        *,
        step: int,
        first_row: int = 0,
        global_rows: int | None = None,
        measure: bool = False,
        masks: tuple[Mask, ...] | None = None,
    ) -> PretextOutput:
        """Compute the loss of a (micro-)batch.

        Args:
            spectrogram: ``[B, F, T]`` normalised.
            step: optimiser steps done before this one.
            first_row: this batch's first clip within the global batch of the step.
            global_rows: clips in the global batch; B when None.
            measure: compute health figures too.
            masks: use these instead of the masker's.
        """
        patches = patchify(spectrogram, self.backbone.patch)  # [B, N, P]
        grid = self.backbone.grid_of(spectrogram.shape[2])
        if masks is None:
            masks = self._draw_masks(patches, grid, step, first_row, global_rows)
        views = tuple(self._read(patches, grid, mask) for mask in masks)
        state = StepState(spectrogram, patches, grid, views, step, self.shapes.total_steps, measure)
        total = torch.zeros((), device=spectrogram.device)
        metrics: dict[str, Tensor | float] = {}
        for label, objective in self._objectives():
            output = objective(state)
            # A weight of 0 is multiplied, not skipped: parameters without a gradient would stall several processes.
            total = total + self.weights[label] * output.loss
            metrics[f"{label}.loss"] = output.loss.detach()
            metrics |= {f"{label}.{name}": value for name, value in output.metrics.items()}
            if output.prediction is not None:
                for view, prediction in zip(views, output.prediction, strict=True):
                    view.prediction = prediction
        if measure:
            metrics["student.latent_std"] = direction_std(views[0].latents)
            metrics["student.latent_rank"] = effective_rank(views[0].latents)
        return PretextOutput(total, metrics)

    def _draw_masks(
        self, patches: Tensor, grid: Grid, step: int, first_row: int, global_rows: int | None
    ) -> tuple[Mask, ...]:
        """Ask the masker, with randomness that depends on (seed, step) alone; ``patches`` is ``[B, N, P]``."""
        generator = torch.Generator(patches.device).manual_seed(self.seed * _SEED_STRIDE + step)

        @torch.no_grad()
        def latents() -> Tensor:
            return self.backbone(self.backbone.embed(patches, grid))[:, self.backbone.prefix_tokens :]

        request = MaskRequest(
            patches=patches,
            grid=grid,
            progress=step / max(1, self.shapes.total_steps),
            generator=generator,
            first_row=first_row,
            global_rows=global_rows,
            latents=latents if self.masker.needs_latents else None,
        )
        with torch.no_grad():
            return self.masker(request)

    def _read(self, patches: Tensor, grid: Grid, mask: Mask) -> View:
        """Encode one view of patches ``[B, N, P]``, with what the objectives need of it."""
        latents = self.backbone(self.backbone.embed(patches, grid, mask.visible))  # [B, prefix + Nv, D]
        view = View(mask, latents[:, self.backbone.prefix_tokens :])
        if "pooled" in self.needs:
            view.pooled = self.backbone.pool(latents)
        if self.predictor is not None:
            view.features = self.predictor(latents, mask, grid)
        if self.teacher is not None:
            view.target = self._target(patches, grid, mask)
        return view

    @torch.no_grad()
    def _target(self, patches: Tensor, grid: Grid, mask: Mask) -> Tensor:
        """Encode the masked patches of ``[B, N, P]`` with the teacher: ``[B, Nm, D]``.

        The embedding is the student's own, live: M2D and MATPAC share it and average the trunk only (METHODS 0.8).
        """
        assert self.teacher is not None
        prefix = self.backbone.prefix_tokens
        if self.teacher_section.sees == "masked":
            return self.teacher(self.backbone.embed(patches, grid, mask.masked))[:, prefix:]
        return gather_rows(self.teacher(self.backbone.embed(patches, grid))[:, prefix:], mask.masked)

    def _objectives(self) -> Iterator[tuple[str, Objective]]:
        """Iterate over labels and objectives, as what they are."""
        for label, module in self.objectives.items():
            yield label, cast(Objective, module)

    def teacher_decay(self, step: int) -> float:
        """Return the teacher's EMA decay of the update at ``step``."""
        start, end = self.teacher_section.decay
        return linear_schedule(start, end, step, self.shapes.total_steps)

    def after_step(self, step: int) -> None:
        """Move the teacher and the objectives' own averages, after the optimiser; ``step`` counts this one."""
        if self.teacher is not None:
            ema_update(self.teacher, self.backbone.trunk, self.teacher_decay(step - 1))
        for _, objective in self._objectives():
            objective.after_step(step, self.shapes.total_steps)

    def health_rules(self) -> list[HealthRule]:
        """Return the rules of the student and of every objective, metrics named as in ``metrics``."""
        rules = [
            HealthRule(
                "student.latent_std",
                "the student's latents are nearly the same for every patch: the representation is collapsing "
                "(lower the learning rate, raise the teacher's decay, or mask less)",
                below=0.02,
            )
        ]
        for label, objective in self._objectives():
            for rule in objective.health_rules():
                rules.append(HealthRule(f"{label}.{rule.metric}", rule.meaning, rule.below, rule.above, rule.after))
        return rules

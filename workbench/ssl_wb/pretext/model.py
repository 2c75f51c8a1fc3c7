"""The pretext model: everything that is trained, behind one forward pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, cast

import torch
from torch import Tensor, nn

from ssl_wb.layers.ema import ema_update, linear_schedule
from ssl_wb.layers.health import direction_std, effective_rank
from ssl_wb.layers.noise import step_noise
from ssl_wb.layers.patches import gather_rows, patchify
from ssl_wb.plugin.backbone import Backbone, Trunk
from ssl_wb.plugin.base import steps_of
from ssl_wb.plugin.masker import Grid, Mask, Masker, MaskRequest
from ssl_wb.plugin.objective import HealthRule, ModelShapes, Need, Objective, StepState, View
from ssl_wb.recipe.schema import TeacherSection

__all__ = ["TEACHER_NEEDS", "PretextModel", "PretextOutput", "WeightedObjective", "draw_masks"]

#: Seeds of masks are spread by a large odd factor, so that (seed 0, step 1) and (seed 1, step 0) do not meet.
_SEED_STRIDE = 1_000_003


#: What stands behind the masks' stream of seeds: no step or seed of a run reaches as far.
_STREAM_STRIDE = 1 << 48
#: Needs for which a teacher is built.
TEACHER_NEEDS: frozenset[Need] = frozenset({"target", "layers", "branches"})


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


def draw_masks(masker: Masker, requests: Sequence[MaskRequest]) -> tuple[Mask, ...]:
    """Ask a masker for one mask per view.

    Args:
        masker: the masker.
        requests: one for the clips as all views hear them, or one for each view.
    """
    if len(requests) == 1:
        return masker(requests[0])
    return tuple(masker(request)[number] for number, request in enumerate(requests))


@dataclass(frozen=True)
class _Rows:
    """This batch within the global batch of the step: its first clip, clips of everyone, clips here."""

    first: int
    everyone: int
    here: int


@dataclass(frozen=True)
class _Taught:
    """What the teacher makes of some patches: latents ``[B, K, D]`` and, where asked for, its blocks' outputs."""

    latents: Tensor
    layers: tuple[Tensor, ...] = ()
    branches: tuple[Tensor, ...] = ()


class _Reading:
    """The clips as one or more views hear them, and what the teacher made of all their patches, computed once."""

    def __init__(self, model: PretextModel, patches: Tensor, grid: Grid) -> None:
        self.model = model
        self.patches = patches  # [B, N, P]
        self.grid = grid
        self._taught: _Taught | None = None

    def taught(self) -> _Taught:
        """Return the teacher's reading of all patches."""
        if self._taught is None:
            self._taught = self.model._teach(self.patches, self.grid, None)
        return self._taught

    @torch.no_grad()
    def latents(self, layer: int | None = None) -> Tensor:
        """Return latents ``[B, N, D]`` for a masker; a pass of the teacher over all patches serves its targets too."""
        model = self.model
        prefix = model.backbone.prefix_tokens
        from_teacher = model.masker.latents_from == "teacher"
        if from_teacher and layer is None and model.teacher_section.sees == "all":
            return self.taught().latents
        trunk = model.teacher if from_teacher else model.backbone.trunk
        assert trunk is not None
        training = trunk.training
        trunk.eval()
        tokens = model.backbone.embed(self.patches, self.grid)
        latents = trunk(tokens) if layer is None else trunk.layers(tokens, layer)[-1]
        trunk.train(training)
        return latents[:, prefix:]


class PretextModel(nn.Module):
    """Student, predictor, EMA teacher and objectives.

    A predictor is built when an objective needs features, a teacher when one needs something of it; each thing is
    computed once per view, whoever asks. Views whose masks have the same counts share one pass.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        masker: Masker,
        predictor: nn.Module | None,
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
        if "pooled" not in self.needs and backbone.pooling is not None:
            # Parameters that never get a gradient would stall several processes.
            backbone.pooling.requires_grad_(False)
        self.shapes = shapes
        self.seed = seed
        self.teacher_section = teacher
        self.teacher: Trunk | None = None
        if not TEACHER_NEEDS.isdisjoint(self.needs):
            self.teacher = copy.deepcopy(backbone.trunk)
            if teacher.init == "independent":
                self.teacher.reset_parameters()
            self.teacher.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Switch student and heads to training; the teacher computes as in evaluation, always."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(
        self,
        spectrogram: Tensor,
        *,
        step: int,
        first_row: int = 0,
        global_rows: int | None = None,
        measure: bool = False,
        masks: tuple[Mask, ...] | None = None,
        captions: Tensor | None = None,
    ) -> PretextOutput:
        """Compute the loss of a (micro-)batch: :meth:`read`, then :meth:`judge`.

        Args:
            spectrogram: ``[B, F, T]`` normalised, or ``[B, V, F, T]`` with one reading of the clip for each view.
            step: optimiser steps done before this one.
            first_row: this batch's first clip within the global batch of the step.
            global_rows: clips in the global batch; B when None.
            measure: compute health figures too.
            masks: use these instead of the masker's.
            captions: ``[B, C]`` caption embeddings, for objectives that need them.
        """
        state = self.read(spectrogram, step=step, first_row=first_row, global_rows=global_rows, masks=masks)
        state.measure = measure
        if captions is not None:
            state.captions = captions
        return self.judge(state)

    def read(
        self,
        spectrogram: Tensor,
        *,
        step: int,
        first_row: int = 0,
        global_rows: int | None = None,
        masks: tuple[Mask, ...] | None = None,
        teach: bool = True,
    ) -> StepState:
        """Mask the clips and encode every view, with what the objectives need of it.

        The same arguments give the same views: masks and the layers' noise follow from (seed, step, row).

        Args:
            spectrogram: as in :meth:`forward`.
            step: as there.
            first_row: as there.
            global_rows: as there.
            masks: as there.
            teach: run the teacher too; without it, views have what the student and the predictor make only.
        """
        readings = self._readings(spectrogram)
        rows = _Rows(first_row, global_rows or len(spectrogram), len(spectrogram))
        if masks is None:
            masks = self._draw_masks(readings, step, rows)
        noise = self._generator(spectrogram.device, step, stream=1)
        with step_noise(noise, first_row=rows.first, global_rows=rows.everyone, rows=rows.here):
            views = self._read(readings, masks, teach=teach)
        return StepState(readings[0].grid, views, step, self.shapes.total_steps)

    def judge(self, state: StepState) -> PretextOutput:
        """Run the objectives in recipe order over what was read and add up their losses."""
        total = torch.zeros((), device=state.views[0].latents.device)
        metrics: dict[str, Tensor | float] = {}
        for label, objective in self._objectives():
            output = objective(state)
            # A weight of 0 is multiplied, not skipped: parameters without a gradient would stall several processes.
            total = total + self.weights[label] * output.loss
            metrics[f"{label}.loss"] = output.loss.detach()
            metrics |= {f"{label}.{name}": value for name, value in output.metrics.items()}
            if output.prediction is not None:
                for view, prediction in zip(state.views, output.prediction, strict=True):
                    view.prediction = prediction
        if state.measure:
            metrics["student.latent_std"] = direction_std(state.views[0].latents)
            metrics["student.latent_rank"] = effective_rank(state.views[0].latents)
        return PretextOutput(total, metrics)

    def _readings(self, spectrogram: Tensor) -> list[_Reading]:
        """Cut ``[B, F, T]`` or ``[B, V, F, T]`` into the patches of one reading, or of one for each view."""
        grid = self.backbone.grid_of(spectrogram.shape[-1])
        each = (spectrogram,) if spectrogram.dim() == 3 else spectrogram.unbind(dim=1)
        return [_Reading(self, patchify(one, self.backbone.patch), grid) for one in each]

    def _generator(self, device: torch.device, step: int, stream: int) -> torch.Generator:
        """Return randomness that depends on (seed, step) alone; masks are stream 0, layers stream 1."""
        where = "cpu" if device.type == "meta" else device  # where shapes are traced nothing is drawn from
        return torch.Generator(where).manual_seed(stream * _STREAM_STRIDE + self.seed * _SEED_STRIDE + step)

    def mask_requests(self, spectrogram: Tensor, *, progress: float, seed: int) -> list[MaskRequest]:
        """Return what the masker would be asked after ``progress`` of the run, one request for each reading.

        For pictures: training takes the randomness of its step, and here all requests start from that of ``seed``.

        Args:
            spectrogram: ``[B, F, T]`` normalised, or ``[B, V, F, T]`` with one reading of the clip for each view.
            progress: 0 to 1.
            seed: of the masks.
        """
        rows = _Rows(0, len(spectrogram), len(spectrogram))
        return [
            self._request(reading, progress, torch.Generator(spectrogram.device).manual_seed(seed), rows)
            for reading in self._readings(spectrogram)
        ]

    def _request(self, reading: _Reading, progress: float, generator: torch.Generator, rows: _Rows) -> MaskRequest:
        """Put together what the masker is asked about one reading."""
        return MaskRequest(
            patches=reading.patches,
            grid=reading.grid,
            progress=progress,
            generator=generator,
            first_row=rows.first,
            global_rows=rows.everyone,
            latents=reading.latents if self.masker.needs_latents else None,
        )

    @torch.no_grad()
    def _draw_masks(self, readings: list[_Reading], step: int, rows: _Rows) -> tuple[Mask, ...]:
        """Ask the masker with the randomness of the step."""
        progress = step / max(1, self.shapes.total_steps)
        requests = [
            self._request(reading, progress, self._generator(reading.patches.device, step, stream=0), rows)
            for reading in readings
        ]
        return draw_masks(self.masker, requests)

    def _read(self, readings: list[_Reading], masks: tuple[Mask, ...], *, teach: bool = True) -> tuple[View, ...]:
        """Encode every view, those of equal counts in one pass, with what the objectives need of it."""
        of_view = readings if len(readings) > 1 else readings * len(masks)
        groups: dict[tuple[int, int], list[int]] = {}
        for number, mask in enumerate(masks):
            groups.setdefault((mask.visible.shape[1], mask.masked.shape[1]), []).append(number)
        views: dict[int, View] = {}
        for numbers in groups.values():
            read = self._read_together([of_view[n] for n in numbers], [masks[n] for n in numbers], teach=teach)
            views |= dict(zip(numbers, read, strict=True))
        return tuple(views[number] for number in range(len(masks)))

    def _read_together(self, readings: list[_Reading], masks: list[Mask], *, teach: bool) -> list[View]:
        """Encode views of equal counts, one after the other in the batch axis: ``[k * B, ...]``."""
        grid, prefix, count = readings[0].grid, self.backbone.prefix_tokens, len(masks)
        mask, patches = masks[0], readings[0].patches
        if count > 1:
            mask = Mask(torch.cat([each.visible for each in masks]), torch.cat([each.masked for each in masks]))
            patches = torch.cat([each.patches for each in readings])  # [k * B, N, P]
        latents = self.backbone(self.backbone.embed(patches, grid, mask.visible))  # [k * B, prefix + Nv, D]
        pooled = self.backbone.pool(latents).chunk(count) if "pooled" in self.needs else None
        features = self.predictor(latents, mask, grid).chunk(count) if self.predictor is not None else None
        taught = self._taught_of(readings, masks, patches, mask) if self.teacher is not None and teach else None
        views = []
        for number, own in enumerate(latents[:, prefix:].chunk(count)):
            view = View(masks[number], own, readings[number].patches)
            if pooled is not None:
                view.pooled = pooled[number]
            if features is not None:
                view.features = features[number]
            if taught is not None and self.teacher is not None:
                if "target" in self.needs:
                    view.target = taught[number].latents
                view.finish = self.teacher.finish
                view.layers, view.branches = taught[number].layers, taught[number].branches
            views.append(view)
        return views

    def _taught_of(self, readings: list[_Reading], masks: list[Mask], patches: Tensor, mask: Mask) -> list[_Taught]:
        """Return the teacher's targets of each view; ``patches`` ``[k * B, N, P]`` and ``mask`` are theirs, joined."""
        if self.teacher_section.sees == "all":
            whole = [reading.taught() for reading in readings]
            return [
                _Taught(gather_rows(one.latents, own.masked), one.layers, one.branches)
                for one, own in zip(whole, masks, strict=True)
            ]
        joined, count = self._teach(patches, readings[0].grid, mask.masked), len(masks)
        layers = [layer.chunk(count) for layer in joined.layers]
        branches = [branch.chunk(count) for branch in joined.branches]
        return [
            _Taught(latents, tuple(each[n] for each in layers), tuple(each[n] for each in branches))
            for n, latents in enumerate(joined.latents.chunk(count))
        ]

    @torch.no_grad()
    def _teach(self, patches: Tensor, grid: Grid, indices: Tensor | None) -> _Taught:
        """Encode patches ``[B, N, P]`` at ``indices`` ``[B, K]`` (all when None) with the teacher.

        The embedding is the student's own, live: M2D and MATPAC share it and average the trunk only.
        """
        assert self.teacher is not None
        prefix = self.backbone.prefix_tokens
        tokens = self.backbone.embed(patches, grid, indices)
        if "branches" in self.needs:
            layers, branches = self.teacher.layers_and_branches(tokens)
        elif "layers" in self.needs:
            layers, branches = self.teacher.layers(tokens), []
        else:
            return _Taught(self.teacher(tokens)[:, prefix:])
        latents = self.teacher.finish(layers[-1])[:, prefix:]
        outputs, added = (tuple(each[:, prefix:] for each in blocks) for blocks in (layers, branches))
        return _Taught(latents, outputs, added)

    def _objectives(self) -> Iterator[tuple[str, Objective]]:
        """Iterate over labels and objectives, as what they are."""
        for label, module in self.objectives.items():
            yield label, cast(Objective, module)

    def teacher_decay(self, step: int) -> float:
        """Return the teacher's EMA decay of the update at ``step``."""
        start, end = self.teacher_section.decay
        over = steps_of(self.teacher_section.decay_over, self.shapes.total_steps)
        return linear_schedule(start, end, step, over)

    def after_step(self, step: int) -> None:
        """Move the teacher and the objectives' own averages, after the optimiser; ``step`` counts this one."""
        if self.teacher is not None:
            ema_update(self.teacher, self.backbone.trunk, self.teacher_decay(step - 1))
        for _, objective in self._objectives():
            objective.after_step(step, self.shapes.total_steps)

    def health_rules(self) -> list[HealthRule]:
        """Return the rules of the student and of every objective, metrics named as in ``metrics``."""
        rules = [HealthRule.collapse("student.latent_std", "the student's latents")]
        for label, objective in self._objectives():
            rules += [replace(rule, metric=f"{label}.{rule.metric}") for rule in objective.health_rules()]
        return rules

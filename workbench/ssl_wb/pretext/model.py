"""The pretext model: everything that is trained, behind one forward pass."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn

from ssl_wb.layers.ema import ema_update
from ssl_wb.layers.health import direction_std, effective_rank
from ssl_wb.layers.noise import step_noise
from ssl_wb.layers.parts import part
from ssl_wb.layers.patches import patchify
from ssl_wb.plugin.backbone import Backbone, Trunk, final_norm_of
from ssl_wb.plugin.contract_checks import check_needs, check_output, check_tokens, reads_values
from ssl_wb.plugin.masker import Grid, Mask, Masker, MaskRequest
from ssl_wb.plugin.objective import HealthRule, ModelShapes, Need, Objective, StepState, View
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.masks import draw_masks
from ssl_wb.pretext.teacher import TEACHER_NEEDS, TeacherOutputs, new_teacher, run_teacher, teacher_decay
from ssl_wb.recipe.schema import TeacherSection

__all__ = ["PretextModel", "PretextOutput", "WeightedObjective", "current_needs"]

#: Seeds of steps are spread by a large odd factor, so that (seed 0, step 1) and (seed 1, step 0) do not meet.
_SEED_STRIDE = 1_000_003
#: Distance between the seeds of the two random streams, masks and layers. The CPU's generator reads the lowest 32 bits
#: alone, so there both streams begin alike: they feed different draws, and runs of version 0.1 go on unchanged.
_STREAM_STRIDE = 1 << 48


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


def current_needs(objectives: Iterable[WeightedObjective]) -> set[Need]:
    """Return what some objectives need, under the names of today."""
    objectives = list(objectives)
    for each in objectives:
        check_needs(each.module)
    needs: set[Need] = set().union(*(each.module.needs for each in objectives))
    if "branches" in needs:
        warnings.warn("the need 'branches' is now called 'mlp_outputs'", DeprecationWarning, stacklevel=2)
        needs = needs - {"branches"} | {"mlp_outputs", "layers"}  # whoever needed the one read the other, too
    return needs


class _Version:
    """The clips under one augmentation: their patches, and what the teacher computes from all of these, once.

    Views without augmentations of their own share one version.
    """

    def __init__(self, model: PretextModel, patches: Tensor, grid: Grid) -> None:
        self.model = model
        self.patches = patches  # [B, N, P]
        self.grid = grid
        self._teacher_outputs: TeacherOutputs | None = None

    def teacher_outputs(self) -> TeacherOutputs:
        """Return the teacher's outputs for all patches."""
        if self._teacher_outputs is None:
            self._teacher_outputs = self.model._run_teacher(self.patches, self.grid, None)
        return self._teacher_outputs

    @torch.no_grad()
    def latents(self, layer: int | None = None) -> Tensor:
        """Return latents ``[B, N, D]`` for a masker, after block ``layer`` or, when None, after the last one.

        Where the teacher sees all patches anyway, one pass serves the masker and the objectives' targets.
        """
        model = self.model
        from_teacher = model.masker.latents_from == "teacher"
        if from_teacher and layer is None and model.teacher_section.sees == "all":
            return self.teacher_outputs().latents
        trunk = model.teacher_trunk if from_teacher else model.backbone.trunk
        assert trunk is not None
        embedding = model.teacher_embedding if from_teacher else model.backbone
        # Without dropped blocks, whose noise belongs to the training pass.
        training = trunk.training
        trunk.eval()
        tokens = embedding.embed(self.patches, self.grid)  # [B, prefix + N, D]
        latents = trunk(tokens) if layer is None else trunk.layers(tokens, layer)[-1]
        trunk.train(training)
        return latents[:, model.backbone.prefix_tokens :]


class PretextModel(nn.Module):
    """Student, predictor, EMA teacher and objectives.

    A predictor is built when an objective needs features, a teacher when one needs its outputs; each thing is
    computed once per view, whoever needs it. Views whose masks have the same counts share one pass.
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
        self.needs = current_needs(objectives)
        if "pooled" not in self.needs and backbone.pooling is not None:
            # DDP waits for a gradient of every trained parameter; these would never get one.
            backbone.pooling.requires_grad_(False)
        self.shapes = shapes
        self.seed = seed
        self.teacher_section = teacher
        # One of the two holds the averages: of the trunk, or of the whole encoder.
        self.teacher: Trunk | None = None
        self.teacher_encoder: Backbone | None = None
        if not TEACHER_NEEDS.isdisjoint(self.needs):
            average = new_teacher(backbone, teacher)
            self.teacher = None if isinstance(average, Backbone) else average
            self.teacher_encoder = average if isinstance(average, Backbone) else None

    @property
    def teacher_trunk(self) -> Trunk | None:
        """The teacher's blocks; None where no objective needs a teacher."""
        return self.teacher if self.teacher_encoder is None else self.teacher_encoder.trunk

    @property
    def teacher_embedding(self) -> Backbone:
        """The backbone that embeds the teacher's patches: the student's, unless the whole encoder is averaged."""
        return self.backbone if self.teacher_encoder is None else self.teacher_encoder

    def train(self, mode: bool = True) -> Self:
        """Switch student and heads to training; the teacher always computes as in evaluation."""
        super().train(mode)
        for average in (self.teacher, self.teacher_encoder):
            if average is not None:
                average.eval()
        return self

    def forward(self, inputs: StepInputs) -> PretextOutput:
        """Compute the loss of a (micro-)batch: :meth:`encode`, then :meth:`compute_losses`."""
        return self.compute_losses(self.encode(inputs))

    def encode(self, inputs: StepInputs, *, teacher: bool = True) -> StepState:
        """Mask the clips and encode every view, with what the objectives need of it.

        Args:
            inputs: the (micro-)batch; equal inputs give equal views.
            teacher: run the teacher too; without it, views hold only what the student and the predictor compute.
        """
        versions = self._versions(inputs.spectrogram)
        masks = inputs.masks
        if masks is None:
            with part("masking"):
                masks = self._draw_masks(versions, inputs)
        noise = self._generator(inputs.spectrogram.device, inputs.step, stream=1)
        with step_noise(noise, first_row=inputs.first_row, global_rows=inputs.all_rows, rows=inputs.rows):
            views = self._encode_views(versions, masks, teacher=teacher)
        state = StepState(versions[0].grid, views, inputs.step, self.shapes.total_steps, inputs.measure)
        if inputs.captions is not None:
            state.captions = inputs.captions
        return state

    def compute_losses(self, state: StepState) -> PretextOutput:
        """Run the objectives in recipe order over the encoded views and add up their losses."""
        total = torch.zeros((), device=state.views[0].latents.device)
        metrics: dict[str, Tensor | float] = {}
        for label, objective in self._objectives():
            with part("objectives"):
                output = objective(state)
            check_output(objective, state, output)
            # A weight of 0 is multiplied, not skipped: DDP waits for a gradient of every trained parameter.
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

    def _versions(self, spectrogram: Tensor) -> list[_Version]:
        """Cut ``[B, F, T]`` or ``[B, V, F, T]`` into the patches of one version, or of one for each view."""
        grid = self.backbone.grid_of(spectrogram.shape[-1])
        each = (spectrogram,) if spectrogram.dim() == 3 else spectrogram.unbind(dim=1)
        return [_Version(self, patchify(one, self.backbone.patch), grid) for one in each]

    def _generator(self, device: torch.device, step: int, stream: int) -> torch.Generator:
        """Return randomness that depends on (seed, step) alone; masks are stream 0, layers stream 1."""
        # The meta device traces shapes and draws no numbers, but a generator has to be somewhere.
        where = "cpu" if device.type == "meta" else device
        return torch.Generator(where).manual_seed(stream * _STREAM_STRIDE + self.seed * _SEED_STRIDE + step)

    def mask_requests(self, spectrogram: Tensor, *, progress: float, seed: int) -> list[MaskRequest]:
        """Return what the masker would be asked after ``progress`` of the run, one request for each version.

        For pictures: training takes the randomness of its step, and here all requests start from that of ``seed``.

        Args:
            spectrogram: as in :class:`StepInputs`.
            progress: 0 to 1.
            seed: of the masks.
        """
        device, rows = spectrogram.device, len(spectrogram)
        return [
            self._request(version, progress, torch.Generator(device).manual_seed(seed), 0, rows)
            for version in self._versions(spectrogram)
        ]

    def _request(
        self, version: _Version, progress: float, generator: torch.Generator, first_row: int, global_rows: int
    ) -> MaskRequest:
        """Put together what the masker is asked about one version of the clips."""
        return MaskRequest(
            patches=version.patches,
            grid=version.grid,
            progress=progress,
            generator=generator,
            first_row=first_row,
            global_rows=global_rows,
            latents=version.latents if self.masker.needs_latents else None,
        )

    @torch.no_grad()
    def _draw_masks(self, versions: list[_Version], inputs: StepInputs) -> tuple[Mask, ...]:
        """Ask the masker with the randomness of the step, the same for every version."""
        progress = inputs.step / max(1, self.shapes.total_steps)
        device = inputs.spectrogram.device
        requests = [
            self._request(
                version, progress, self._generator(device, inputs.step, stream=0), inputs.first_row, inputs.all_rows
            )
            for version in versions
        ]
        return draw_masks(self.masker, requests, values=reads_values(device, inputs.step))

    def _encode_views(
        self, versions: list[_Version], masks: tuple[Mask, ...], *, teacher: bool = True
    ) -> tuple[View, ...]:
        """Encode every view with what the objectives need of it; views of equal counts share a pass."""
        of_view = versions if len(versions) > 1 else versions * len(masks)
        groups: dict[tuple[int, int], list[int]] = {}
        for number, mask in enumerate(masks):
            groups.setdefault((mask.visible.shape[1], mask.masked.shape[1]), []).append(number)
        views: dict[int, View] = {}
        for numbers in groups.values():
            together = self._encode_together(
                [of_view[n] for n in numbers], [masks[n] for n in numbers], teacher=teacher
            )
            views |= dict(zip(numbers, together, strict=True))
        return tuple(views[number] for number in range(len(masks)))

    def _encode_together(self, versions: list[_Version], masks: list[Mask], *, teacher: bool) -> list[View]:
        """Encode k views of equal counts, one after the other in the batch axis: ``[k * B, ...]``."""
        grid, prefix, count = versions[0].grid, self.backbone.prefix_tokens, len(masks)
        mask, patches = masks[0], versions[0].patches
        if count > 1:
            mask = Mask(torch.cat([each.visible for each in masks]), torch.cat([each.masked for each in masks]))
            patches = torch.cat([each.patches for each in versions])  # [k * B, N, P]
        with part("student"):
            tokens = self.backbone.embed(patches, grid, mask.visible)  # [k * B, prefix + Nv, D]
            latents = self.backbone(tokens)  # likewise
            shape = (len(patches), prefix + mask.visible.shape[1], self.backbone.dim)
            check_tokens(self.backbone, shape, embed=tokens, forward=latents)
            pooled = self.backbone.pool(latents).chunk(count) if "pooled" in self.needs else None  # k x [B, D]
        features = None
        if self.predictor is not None:
            with part("predictor"):
                features = self.predictor(latents, mask, grid).chunk(count)  # k x [B, Nm, Dd]
        targets: list[TeacherOutputs] = []
        trunk = self.teacher_trunk
        if trunk is not None and teacher:
            if self.teacher_section.sees == "all":
                targets = [each.teacher_outputs() for each in versions]
            else:
                targets = self._run_teacher(patches, grid, mask.masked).split(count)
        views = []
        for number, visible in enumerate(latents[:, prefix:].chunk(count)):  # [B, Nv, D]
            view = View(masks[number], visible, versions[number].patches)
            if pooled is not None:
                view.pooled = pooled[number]
            if features is not None:
                view.features = features[number]
            if targets and trunk is not None:
                view.layers, view.mlp_outputs = targets[number].layers, targets[number].mlp_outputs
                view.final_norm = final_norm_of(trunk)
                if "target" in self.needs:
                    view.target = targets[number].latents_at(masks[number].masked)
            views.append(view)
        return views

    def _run_teacher(self, patches: Tensor, grid: Grid, indices: Tensor | None) -> TeacherOutputs:
        """Encode patches ``[B, N, P]`` at ``indices`` ``[B, K]`` (all when None) with the teacher."""
        trunk = self.teacher_trunk
        assert trunk is not None
        return run_teacher(trunk, self.teacher_embedding, self.needs, patches, grid, indices)

    def _objectives(self) -> Iterator[tuple[str, Objective]]:
        """Iterate over (label, objective) pairs."""
        for label, module in self.objectives.items():
            assert isinstance(module, Objective)
            yield label, module

    def teacher_decay(self, step: int) -> float:
        """Return the teacher's EMA decay of the update at ``step``."""
        return teacher_decay(self.teacher_section, step, self.shapes.total_steps)

    def after_step(self, step: int) -> None:
        """Move the teacher and the objectives' own averages, after the optimiser; ``step`` counts this one."""
        with part("EMA"):
            if self.teacher is not None:
                ema_update(self.teacher, self.backbone.trunk, self.teacher_decay(step - 1))
            if self.teacher_encoder is not None:
                ema_update(self.teacher_encoder, self.backbone, self.teacher_decay(step - 1))
            for _, objective in self._objectives():
                objective.after_step(step, self.shapes.total_steps)

    def health_rules(self) -> list[HealthRule]:
        """Return the rules of the student and of every objective, metrics named as in ``metrics``."""
        rules = [HealthRule.collapse("student.latent_std", "the student's latents")]
        for label, objective in self._objectives():
            rules += [replace(rule, metric=f"{label}.{rule.metric}") for rule in objective.health_rules()]
        return rules

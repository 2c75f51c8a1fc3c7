"""The plan of a recipe, made before training: sizes, operations, memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ssl_wb.errors import RecipeError
from ssl_wb.plugin.contract_checks import check_gradients
from ssl_wb.plugin.masker import Mask, MaskRequest
from ssl_wb.plugin.objective import Objective, StepState
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.crop import crop_frames
from ssl_wb.pretext.inputs import StepInputs
from ssl_wb.pretext.masks import try_masker
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe

__all__ = ["Kept", "Plan", "kept_bytes", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """Sizes of a recipe's training step.

    Attributes:
        parameters: trained parameters by part (backbone, predictor, each objective).
        teacher_parameters: parameters of the EMA teacher.
        grid: rows (frequency) and columns (time) of the patch grid.
        visible: visible patches of each view.
        masked: masked patches of each view.
        gflop_per_clip: forward and backward of one clip, multiply-add counted as two.
        state_bytes: weights, gradients and both AdamW moments in float32, and the teacher.
        activation_bytes_per_clip: kept for the backward pass in float32; about half of it in bf16.
        objective_bytes_per_clip: the objectives' part of it, which gradient caching does not make smaller.
        output_bytes_per_clip: what the encoder hands to the objectives, kept for the whole batch in gradient caching.
        has_teacher: an objective needs an EMA teacher's outputs.
    """

    parameters: dict[str, int]
    teacher_parameters: int
    grid: tuple[int, int]
    visible: list[int]
    masked: list[int]
    gflop_per_clip: float
    state_bytes: int
    activation_bytes_per_clip: int
    objective_bytes_per_clip: int = 0
    output_bytes_per_clip: int = 0
    has_teacher: bool = False

    def memory_bytes(self, clips: int, *, half: bool, loss_clips: int | None = None) -> int:
        """Estimate the memory of a step on one device.

        Args:
            clips: clips of one pass.
            half: bf16 or fp16.
            loss_clips: clips of one loss, where they are more: with ``train.micro_batch``.
        """
        kept = Kept(
            clips * (self.activation_bytes_per_clip - self.objective_bytes_per_clip),
            max(clips, loss_clips or clips) * self.objective_bytes_per_clip,
            (loss_clips or clips) * self.output_bytes_per_clip,
        )
        total = kept.together if loss_clips is None or loss_clips <= clips else kept.cached
        return self.state_bytes + total // (2 if half else 1)


@dataclass(frozen=True)
class Kept:
    """Bytes kept of a step's forward pass, in float32.

    Attributes:
        encoder: for the backward pass through encoder, predictor and teacher, of the clips of one pass.
        objectives: for that through the objectives, of the clips of one loss.
        outputs: what the encoder hands to the objectives, of those clips.
    """

    encoder: int
    objectives: int
    outputs: int

    @property
    def together(self) -> int:
        """At most at a time where one pass has all clips of a loss."""
        return self.encoder + self.objectives

    @property
    def cached(self) -> int:
        """At most at a time with gradient caching.

        At first the outputs of all clips are joined, so that they are there twice; during the loss, gradients take the
        place of the parts. Then clips are encoded again, some at a time, while those gradients are kept.
        """
        return max(2 * self.outputs + self.objectives, self.outputs + self.encoder)


def _count(module: nn.Module, *, trained: bool) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad is trained)


def _convolution_backward_flops(grad: Any, inputs: Any, weight: Any, *rest: Any, **kwargs: Any) -> int:
    """Count a convolution's backward pass, groups included: torch counts a grouped convolution as a full one.

    Arguments are those of ``aten::convolution_backward``, tensors or their shapes; the last one given by position says
    which of the gradients of input, weight and bias are wanted.
    """
    del inputs, kwargs
    grad, weight = (getattr(each, "shape", each) for each in (grad, weight))
    wanted = rest[-1]
    # Forward, each output value takes one multiply-add per weight of its filter; backward, one for each gradient.
    return int(2 * math.prod(grad) * math.prod(weight[1:]) * (bool(wanted[0]) + bool(wanted[1])))


def _meta_masks(model: PretextModel, frames: int) -> tuple[Mask, ...]:
    """Draw masks for one clip of equal pixels, as silence has; on the meta device only their counts matter."""
    grid = model.backbone.grid_of(frames)
    pixels = model.backbone.patch[0] * model.backbone.patch[1]

    def latents(layer: int | None = None) -> Tensor:
        if layer is not None:  # raises now where there is no such layer
            model.backbone.trunk.layers(torch.zeros(1, 1, model.backbone.dim, device="meta"), layer)
        return torch.zeros(1, grid.cells, model.backbone.dim)

    request = MaskRequest(
        patches=torch.ones(1, grid.cells, pixels),
        grid=grid,
        progress=1.0,  # at the end of every schedule
        generator=torch.Generator().manual_seed(0),
        latents=latents,
    )
    return tuple(Mask(mask.visible.to("meta"), mask.masked.to("meta")) for mask in try_masker(model.masker, request))


def make_plan(loaded: LoadedRecipe) -> Plan:
    """Build the recipe's model on the meta device and trace one training step of one clip.

    Raises:
        RecipeError: the parts do not fit each other.
    """
    with torch.device("meta"):
        model = build_model(loaded, total_steps=1000)
    frames = crop_frames(loaded, model.backbone.patch[1])
    try:
        with torch.device("cpu"):
            masks = _meta_masks(model, frames)
    except ValueError as error:
        raise RecipeError([f"masker {loaded.masker.name!r}: {error}"], where=str(loaded.path)) from error
    grid = model.backbone.grid_of(frames)
    for number, mask in enumerate(masks):
        # A contrast of clips may do without masks; a predictor and a teacher need something to predict.
        wanted = model.predictor is not None or model.teacher_trunk is not None
        if not (mask.visible.shape[1] and (mask.masked.shape[1] or not wanted)):
            empty = "masked" if mask.visible.shape[1] else "visible"
            view = f" in view {number + 1} of {len(masks)}" if len(masks) > 1 else ""
            patches = f"of {grid.cells} patches ({grid.freq} x {grid.time}) none would be {empty}{view}"
            fault = f"masker {loaded.masker.name!r}: {patches}"
            raise RecipeError([f"{fault}; change its ratio or data.clip_seconds"], where=str(loaded.path))
    counter: Any = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward_flops}
    )
    with counter:
        kept, loss = _forward(loaded, model, masks, 1)
        loss.backward()
    for objective in model.objectives.values():
        assert isinstance(objective, Objective)
        check_gradients(objective)
    parameters = {"backbone": _count(model.backbone, trained=True)}
    if model.predictor is not None:
        parameters["predictor"] = _count(model.predictor, trained=True)
    parameters |= {name: _count(objective, trained=True) for name, objective in model.objectives.items()}
    frozen = _count(model, trained=False)
    return Plan(
        parameters=parameters,
        teacher_parameters=frozen,
        grid=(grid.freq, grid.time),
        visible=[mask.visible.shape[1] for mask in masks],
        masked=[mask.masked.shape[1] for mask in masks],
        gflop_per_clip=counter.get_total_flops() / 1e9,
        state_bytes=16 * sum(parameters.values()) + 4 * frozen,
        activation_bytes_per_clip=kept.together,
        objective_bytes_per_clip=kept.objectives,
        output_bytes_per_clip=kept.outputs,
        has_teacher=model.teacher_trunk is not None,
    )


def kept_bytes(loaded: LoadedRecipe, clips: int) -> Kept:
    """Trace a forward pass of so many clips on the meta device; terms that grow with their square are included.

    Args:
        loaded: a recipe that :func:`make_plan` has found no fault with.
        clips: clips of one pass, and of one loss.
    """
    with torch.device("meta"):
        model = build_model(loaded, total_steps=1000)
    with torch.device("cpu"):
        masks = _meta_masks(model, crop_frames(loaded, model.backbone.patch[1]))
    return _forward(loaded, model, masks, clips)[0]


def _forward(loaded: LoadedRecipe, model: PretextModel, masks: Sequence[Mask], clips: int) -> tuple[Kept, Tensor]:
    """Trace the forward pass of so many clips on the meta device; return the bytes it keeps, and the loss."""
    kept: dict[int, int] = {}
    # A view has its base's storage, so bytes are counted by storage.
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    frames = crop_frames(loaded, model.backbone.patch[1])
    views = (len(masks),) if loaded.augmentations else ()  # where each view has its own augmentation
    inputs = StepInputs(
        torch.zeros(clips, *views, model.backbone.n_mels, frames, device="meta"),
        step=0,
        captions=torch.zeros(clips, model.shapes.caption_dim, device="meta") if "captions" in model.needs else None,
        masks=tuple(Mask(mask.visible.expand(clips, -1), mask.masked.expand(clips, -1)) for mask in masks),
    )
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        state = model.encode(inputs)
        encoder = sum(kept.values())
        loss = model.compute_losses(state).loss
    return Kept(encoder, sum(kept.values()) - encoder, _output_bytes(state)), loss


def _output_bytes(state: StepState) -> int:
    """Sum the sizes of all tensors of a step's views, each once: views may share some."""
    sizes: dict[int, int] = {}
    for view in state.views:
        parts = (view.latents, view.patches, view.pooled, view.features, view.target, *view.layers, *view.mlp_outputs)
        sizes |= {id(part): part.numel() * part.element_size() for part in parts if part is not None}
    return sum(sizes.values())

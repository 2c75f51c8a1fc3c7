"""Gradient caching: the loss of a whole batch, of which a few clips at a time are encoded with a graph.

Gao et al. 2021, arXiv 2101.06983. A contrast wants many clips in one loss, and memory holds the activations of few.

1. Every micro-batch is encoded without a graph. The outputs that objectives use are kept.
2. The objectives compute the loss of the whole batch, and its gradient with respect to these outputs.
3. Every micro-batch is encoded again, with a graph, and that gradient goes through it into the weights.

This is the gradient of the whole batch, exactly: masks and the layers' noise follow from (seed, step, row), so both
passes have the same, and what an objective normalises over the batch (the projector's batch norm) comes after the cache
and sees all of it. A backbone that normalises over its batch itself would see one micro-batch at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor
from torch import distributed as dist

from ssl_wb.data.loader import Batch
from ssl_wb.layers.parts import part
from ssl_wb.layers.processes import process_place
from ssl_wb.plugin.masker import Mask
from ssl_wb.plugin.objective import StepState, View
from ssl_wb.pretext.model import PretextModel, PretextOutput
from ssl_wb.training.step import TrainingStep

__all__ = ["GradientCache", "average_gradients", "join_states"]

#: Outputs of a view that carry a gradient; the teacher's have none.
_WITH_GRADIENT = ("latents", "pooled", "features")
#: Numbers in one message between processes: 25 MiB of float32, as DDP sends them.
_MESSAGE = 25 * 2**18


class GradientCache:
    """Backward passes of a whole batch in micro-batches.

    Args:
        model: the plain pretext model, not the wrapper that several processes share: its parts are called by
            themselves, and gradients are averaged here, at the end.
        training_step: makes the inputs of a micro-batch.
    """

    def __init__(self, model: PretextModel, training_step: TrainingStep) -> None:
        self.model = model
        self.training_step = training_step

    def backward(self, batches: Sequence[Batch], *, step: int, measure: bool) -> PretextOutput:
        """Add the gradient of the loss over all of this process' clips, mean over processes, to the parameters'.

        Args:
            batches: the micro-batches of this process, in order.
            step: optimiser steps done before this one.
            measure: compute health figures too.
        """
        accelerator = self.training_step.accelerator
        random = [_GeneratorStates(accelerator.device) for _ in batches]
        states: list[StepState] = []
        with torch.no_grad():
            for batch, generators in zip(batches, random, strict=True):
                generators.save()
                states.append(self._encode(batch, step))
        masks = [tuple(view.mask for view in state.views) for state in states]
        state = replace(join_states(states), measure=measure)
        del states  # the joined copies are in use now; both would take twice the memory
        with self.training_step.autocast():
            output = self.model.compute_losses(state)
        with part("backward"):
            accelerator.backward(output.loss)
        gradients = _gradients_of(state, len(batches))
        del state
        for batch, its_masks, its_gradients, generators in zip(batches, masks, gradients, random, strict=True):
            with generators.restored():
                again = self._encode(batch, step, its_masks)
            with part("backward"):
                _backpropagate(again, its_gradients)
        average_gradients(list(self.model.parameters()))
        return output

    def _encode(self, batch: Batch, step: int, masks: tuple[Mask, ...] | None = None) -> StepState:
        """Encode one micro-batch; with its masks the second time, when the teacher's targets are known."""
        inputs = self.training_step.inputs(batch, step=step, masks=masks)
        with self.training_step.autocast():
            return self.model.encode(inputs, teacher=masks is None)


class _GeneratorStates:
    """States of torch's own generators, for layers (a plugin's dropout) that draw from them."""

    def __init__(self, device: torch.device) -> None:
        self.devices = [device] if device.type == "cuda" else []

    def save(self) -> None:
        """Remember the generators' states."""
        self.cpu = torch.get_rng_state()
        self.cuda = [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Inside, draw what was drawn after :meth:`save`; outside, go on where the generators are."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.cpu)
            for device, state in zip(self.devices, self.cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


def join_states(states: Sequence[StepState]) -> StepState:
    """Join micro-batches along the batch axis into the state of one step; what has a gradient starts a graph here."""
    first = states[0]
    joined: dict[tuple[int, ...], Tensor] = {}

    def join(parts: Sequence[Tensor]) -> Tensor:
        # Views may share a tensor (patches, a teacher's pass); they then share the joined one too.
        key = tuple(id(part) for part in parts)
        if key not in joined:
            joined[key] = torch.cat(list(parts))
        return joined[key]

    def join_all(parts: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return tuple(join(each) for each in zip(*parts, strict=True))

    views = []
    for of_view in zip(*(state.views for state in states), strict=True):
        mask = Mask(join([view.mask.visible for view in of_view]), join([view.mask.masked for view in of_view]))
        view = View(mask, join([each.latents for each in of_view]), join([each.patches for each in of_view]))
        for name in ("pooled", "features", "target"):
            if getattr(of_view[0], name) is not None:
                setattr(view, name, join([getattr(each, name) for each in of_view]))
        for name in _WITH_GRADIENT:
            if getattr(view, name) is not None:
                setattr(view, name, getattr(view, name).detach().requires_grad_())
        view.layers = join_all([each.layers for each in of_view])
        view.mlp_outputs = join_all([each.mlp_outputs for each in of_view])
        view.final_norm = of_view[0].final_norm
        views.append(view)
    state = replace(first, views=tuple(views))
    if first.captions is not None:
        state.captions = torch.cat([each.captions for each in states])  # [b, C]
    return state


def _gradients_of(state: StepState, parts: int) -> list[list[dict[str, Tensor]]]:
    """Return the gradients of a joined state's views: of each micro-batch, of each view, by name of the output."""
    split: list[list[dict[str, Tensor]]] = [[{} for _ in state.views] for _ in range(parts)]
    for number, view in enumerate(state.views):
        for name in _WITH_GRADIENT:
            leaf = getattr(view, name)
            if leaf is None or leaf.grad is None:
                continue  # no objective used it
            for position, gradient in enumerate(leaf.grad.chunk(parts)):
                split[position][number][name] = gradient
    return split


def _backpropagate(state: StepState, gradients: Sequence[dict[str, Tensor]]) -> None:
    """Send the gradients of a micro-batch's views on into the weights."""
    tensors: list[Tensor] = []
    given: list[Tensor] = []
    for view, by_name in zip(state.views, gradients, strict=True):
        for name, gradient in by_name.items():
            tensor: Tensor = getattr(view, name)
            if tensor.requires_grad:  # otherwise nothing behind it is trained
                tensors.append(tensor)
                given.append(gradient)
    if tensors:
        torch.autograd.backward(tensors, given)


@torch.no_grad()
def average_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Average the gradients over processes, once, in messages of 25 MiB; all processes have the same parameters."""
    _, world = process_place()
    if world == 1:
        return
    waiting: list[Tensor] = []
    gradients = [each.grad for each in parameters if each.grad is not None]
    for number, gradient in enumerate(gradients):
        waiting.append(gradient)
        following = gradients[number + 1] if number + 1 < len(gradients) else None
        full = sum(each.numel() for each in waiting) >= _MESSAGE
        if following is not None and following.dtype == gradient.dtype and not full:
            continue
        message = torch.cat([each.flatten() for each in waiting])
        dist.all_reduce(message)
        message /= world
        for each, mean in zip(waiting, message.split([each.numel() for each in waiting]), strict=True):
            each.copy_(mean.view_as(each))
        waiting = []

"""Gradient caching: the loss of a whole batch, of which a few clips at a time are encoded with a graph.

Gao et al. 2021, arXiv 2101.06983. A contrast wants many clips in one loss, and memory holds the activations of few.

1. Every micro-batch is encoded without a graph. What the objectives read of it is kept.
2. The objectives compute the loss of the whole batch, and its gradient with respect to what they read.
3. Every micro-batch is encoded again, with a graph, and that gradient goes through it into the weights.

This is the gradient of the whole batch, exactly: masks and the layers' noise follow from (seed, step, row) and come
again, and what an objective normalises over the batch (the projector's batch norm) lies behind the cache and sees all
of it. A backbone that normalises over its batch itself would see one micro-batch at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor
from torch import distributed as dist

from ssl_wb.audio.front_end import FrontEnd
from ssl_wb.data.loading import Batch
from ssl_wb.layers.processes import process_place
from ssl_wb.plugin.masker import Mask
from ssl_wb.plugin.objective import StepState, View
from ssl_wb.pretext.model import PretextModel, PretextOutput

__all__ = ["GradientCache", "average_gradients", "join_states", "spectrogram_of"]

#: What an objective may read of a view that has a gradient.
_READ = ("latents", "pooled", "features")
#: Numbers in one message between processes: 25 MiB of float32, as DDP sends them.
_MESSAGE = 25 * 2**18


@torch.no_grad()
def spectrogram_of(batch: Batch, front_end: FrontEnd) -> Tensor:
    """Return the front end's ``[B, F, T]``, or ``[B, V, F, T]`` where clips have several readings."""
    rows, views, _ = batch.waveform.shape
    lengths = batch.lengths.repeat_interleave(views)  # [B * V]
    spectrogram, _ = front_end(batch.waveform.flatten(0, 1), lengths)  # [B * V, F, T]
    return spectrogram if views == 1 else spectrogram.unflatten(0, (rows, views))


class GradientCache:
    """Backward passes of a whole batch in micro-batches.

    Args:
        model: the plain pretext model, not the wrapper that several processes share: gradients meet here, at the end.
        accelerator: for autocast and the scale of fp16.
        spectrogram: makes ``[B, F, T]`` or ``[B, V, F, T]`` of a micro-batch on the device.
        global_rows: clips in the global batch.
    """

    def __init__(
        self, model: PretextModel, accelerator: Accelerator, spectrogram: Callable[[Batch], Tensor], global_rows: int
    ) -> None:
        self.model = model
        self.accelerator = accelerator
        self.spectrogram = spectrogram
        self.global_rows = global_rows

    def backward(self, batches: Sequence[Batch], *, step: int, measure: bool) -> PretextOutput:
        """Add the gradient of the loss over all of this process' clips, mean over processes, to the parameters'.

        Args:
            batches: the micro-batches of this process, in order.
            step: optimiser steps done before this one.
            measure: compute health figures too.
        """
        random = [_Randomness(self.accelerator.device) for _ in batches]
        read: list[StepState] = []
        with torch.no_grad():
            for batch, own in zip(batches, random, strict=True):
                own.note()
                read.append(self._read(batch, step))
        masks = [tuple(view.mask for view in state.views) for state in read]
        state = join_states(read)
        del read
        state.measure = measure
        captions = [batch.captions.to(self.accelerator.device) for batch in batches if batch.captions is not None]
        if captions:
            state.captions = torch.cat(captions)  # [b, C]
        with self.accelerator.autocast():
            output = self.model.judge(state)
        self.accelerator.backward(output.loss)
        gradients = _gradients_of(state, len(batches))
        del state
        for batch, own_masks, own_gradients, own in zip(batches, masks, gradients, random, strict=True):
            with own.again():
                again = self._read(batch, step, own_masks)
            _backpropagate(again, own_gradients)
        average_gradients(list(self.model.parameters()))
        return output

    def _read(self, batch: Batch, step: int, masks: tuple[Mask, ...] | None = None) -> StepState:
        """Read one micro-batch; with its masks the second time, when the targets are known."""
        batch = batch.to(self.accelerator.device)
        with self.accelerator.autocast():
            return self.model.read(
                self.spectrogram(batch),
                step=step,
                first_row=batch.first_row,
                global_rows=self.global_rows,
                masks=masks,
                teach=masks is None,
            )


class _Randomness:
    """torch's own generators, for layers (a plugin's dropout) that draw from them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.devices = [device] if device.type == "cuda" else []

    def note(self) -> None:
        """Remember where the generators stand."""
        self.cpu = torch.get_rng_state()
        self.cuda = [torch.cuda.get_rng_state(device) for device in self.devices]

    @contextmanager
    def again(self) -> Iterator[None]:
        """Draw what was drawn after :meth:`note`."""
        with torch.random.fork_rng(self.devices):
            torch.set_rng_state(self.cpu)
            for device, state in zip(self.devices, self.cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield


def join_states(states: Sequence[StepState]) -> StepState:
    """Join micro-batches, one after the other, into the state of one step; what has a gradient starts a graph here."""
    first = states[0]
    joined: dict[tuple[int, ...], Tensor] = {}

    def join(parts: Sequence[Tensor]) -> Tensor:
        # Views may share a tensor (a reading, a teacher's pass): they share what becomes of it.
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
        for name in _READ:
            if getattr(view, name) is not None:
                setattr(view, name, getattr(view, name).detach().requires_grad_())
        view.layers = join_all([each.layers for each in of_view])
        view.branches = join_all([each.branches for each in of_view])
        view.finish = of_view[0].finish
        views.append(view)
    return StepState(first.grid, tuple(views), first.step, first.total_steps)


def _gradients_of(state: StepState, parts: int) -> list[list[dict[str, Tensor]]]:
    """Return the gradients of what was read, by name, of each view of each of so many micro-batches."""
    split: list[list[dict[str, Tensor]]] = [[{} for _ in state.views] for _ in range(parts)]
    for number, view in enumerate(state.views):
        for name in _READ:
            leaf = getattr(view, name)
            if leaf is None or leaf.grad is None:
                continue  # nobody read it
            for part, gradient in enumerate(leaf.grad.chunk(parts)):
                split[part][number][name] = gradient
    return split


def _backpropagate(state: StepState, gradients: Sequence[dict[str, Tensor]]) -> None:
    """Send the gradients of what was read of a micro-batch on into the weights."""
    tensors: list[Tensor] = []
    given: list[Tensor] = []
    for view, by_name in zip(state.views, gradients, strict=True):
        for name, gradient in by_name.items():
            tensor: Tensor = getattr(view, name)
            if tensor.requires_grad:  # nothing behind it is trained otherwise
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
        for each, part in zip(waiting, message.split([each.numel() for each in waiting]), strict=True):
            each.copy_(part.view_as(each))
        waiting = []

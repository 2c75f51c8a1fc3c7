"""Heads trained side by side: modules of any kind, or linear layers as one stack of weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ssl_wb.probing.heads import Head, LinearHead, logits_of
from ssl_wb.probing.inputs import Inputs
from ssl_wb.probing.targets import Targets

__all__ = ["Batch", "HeadEnsemble", "LinearEnsemble", "ModuleEnsemble"]

#: Adam's constants.
BETAS, EPS = (0.9, 0.999), 1e-8


class Batch(NamedTuple):
    """Clips of one step and the heads that see them: inputs ``[b, ...]``, targets ``[b, C]``."""

    members: Sequence[int]
    inputs: Any
    targets: Tensor


class ModuleEnsemble:
    """Heads as modules, with gradients by autograd and torch's Adam.

    Each head has its own loss and settings; members are numbered from 0.

    Args:
        heads: R heads.
        settings: grid point of each.
        targets: gives the loss.
    """

    def __init__(self, heads: Sequence[Head], settings: Sequence[dict[str, Any]], targets: Targets) -> None:
        self._heads, self._targets = heads, targets
        # Groups of equal settings become one: a fused step costs time per group.
        groups: dict[tuple[Any, ...], dict[str, Any]] = {}
        for head, point in zip(heads, settings, strict=True):
            for group in head.groups(point):
                values = {key: value for key, value in group.items() if key != "params"}
                groups.setdefault(tuple(values.items()), {**values, "params": []})["params"] += group["params"]
        self._optimiser = torch.optim.Adam(list(groups.values()), lr=settings[0]["lr"], fused=True)

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one step of Adam with every head that is in a batch; each is in one batch at most.

        A head that is in no batch has no gradient, and Adam skips it.
        """
        self._optimiser.zero_grad()
        losses = [
            self._targets.loss(self._heads[member].train()(batch.inputs), batch.targets)
            for batch in batches
            for member in batch.members
        ]
        torch.stack(losses).sum().backward()  # the sum gives each head the gradient of its own loss
        self._optimiser.step()

    def logits(self, members: Sequence[int], inputs: Inputs, at_once: int) -> Tensor:
        """Return logits ``[r, n, C]`` of r members in evaluation mode, for n inputs read ``at_once`` at a time."""
        return logits_of([self._heads[member] for member in members], inputs, at_once)

    def head(self, member: int) -> Head:
        """Return a copy of a head as it is now."""
        return copy.deepcopy(self._heads[member])

    def keep(self, members: Sequence[int]) -> None:
        """Do nothing: a head that is in no batch costs nothing."""


class LinearEnsemble:
    """Linear layers as one stack of weights, with the methods of :class:`ModuleEnsemble`.

    A step is two matrix products per batch and Adam's update. The gradient is written out
    (:meth:`ssl_wb.probing.targets.Targets.predictions`): for layers this small, autograd and an optimiser that visits
    each parameter cost more than the products themselves.

    Args:
        heads: R heads of one shape.
        settings: grid point of each, with ``lr`` and perhaps ``weight_decay``.
        targets: gives the predictions that the gradient is made of.
    """

    def __init__(self, heads: Sequence[Head], settings: Sequence[dict[str, Any]], targets: Targets) -> None:
        layers = [head.linear for head in heads if isinstance(head, LinearHead)]
        self._heads, self._targets = heads, targets
        self._members = list(range(len(heads)))  # the member in each row of the stacks
        weights = torch.stack([layer.weight.detach() for layer in layers])  # [R, C, D]
        biases = torch.stack([layer.bias.detach()[:, None] for layer in layers])  # [R, C, 1]
        self._tensors = [weights, biases]
        # Adam's running means of gradients and of their squares, of weights and of biases.
        self._means, self._squares = ([torch.zeros_like(each) for each in self._tensors] for _ in range(2))
        self._rates = torch.tensor([point["lr"] for point in settings])[:, None, None]  # [R, 1, 1]
        self._decays = torch.tensor([point.get("weight_decay", 0.0) for point in settings])[:, None, None]
        self._steps = 0

    def _rows(self, members: Sequence[int]) -> slice | Tensor:
        """Return the rows of some members: a slice, whose indexing copies nothing, where they lie side by side."""
        rows = [self._members.index(member) for member in members]
        side_by_side = rows == list(range(rows[0], rows[0] + len(rows)))
        return slice(rows[0], rows[-1] + 1) if side_by_side else torch.tensor(rows)

    @torch.no_grad()
    def step(self, batches: Sequence[Batch]) -> None:
        """Take one step; every member that is kept has to be in a batch."""
        weights, biases = self._tensors
        gradients = [torch.empty_like(each) for each in self._tensors]
        for batch in batches:
            rows = self._rows(batch.members)
            weight, bias = weights[rows], biases[rows]  # [r, C, D], [r, C, 1]
            logits = functional.linear(batch.inputs, weight.flatten(0, 1), bias.flatten())  # [b, r * C]
            predictions = self._targets.predictions(logits.unflatten(1, weight.shape[:2]))  # [b, r, C]
            error = ((predictions - batch.targets[:, None]) / len(batch.inputs)).flatten(1)  # [b, r * C]
            gradients[0][rows] = (error.T @ batch.inputs).view_as(weight)
            gradients[1][rows] = error.sum(dim=0).view_as(bias)
        gradients[0].addcmul_(weights, self._decays)  # L2 penalty on weights, not on biases
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in BETAS)  # Adam's corrections of its bias towards 0
        for tensor, mean, square, gradient in zip(self._tensors, self._means, self._squares, gradients, strict=True):
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            tensor.addcmul_(mean / square.sqrt().div_(second**0.5).add_(EPS), self._rates, value=-1 / first)

    @torch.no_grad()
    def logits(self, members: Sequence[int], inputs: Inputs, at_once: int) -> Tensor:
        """Return logits ``[r, n, C]``."""
        weight, bias = (each[self._rows(members)] for each in self._tensors)  # [r, C, D], [r, C, 1]
        wide, flat = weight.flatten(0, 1), bias.flatten()
        parts = [inputs[first : first + at_once] for first in range(0, len(inputs), at_once)]
        logits = [functional.linear(part, wide, flat).unflatten(1, weight.shape[:2]) for part in parts]
        return torch.cat(logits).transpose(0, 1)

    @torch.no_grad()
    def head(self, member: int) -> Head:
        """Return a head with a copy of its row."""
        head = copy.deepcopy(self._heads[member])
        assert isinstance(head, LinearHead)
        weight, bias = (each[self._members.index(member)] for each in self._tensors)
        head.linear.weight.copy_(weight)
        head.linear.bias.copy_(bias[:, 0])
        return head

    def keep(self, members: Sequence[int]) -> None:
        """Drop the rows of all other members."""
        rows = self._rows(members)
        for tensors in (self._tensors, self._means, self._squares):
            tensors[:] = [each[rows].clone() for each in tensors]
        self._rates, self._decays = self._rates[rows], self._decays[rows]
        self._members = list(members)


HeadEnsemble = ModuleEnsemble | LinearEnsemble

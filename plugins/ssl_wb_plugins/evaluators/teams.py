"""Heads that train at the same time: modules of any kind, or linear layers as one stack of weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_wb_plugins.evaluators.scaling import Inputs, Scaling

__all__ = ["INIT_STD", "Batch", "Head", "LinearHead", "LinearTeam", "ModuleTeam", "Team", "linear_layer", "logits_of"]

#: Spread of a linear layer's first weights: small, so that directions the clips do not span add no noise to the scores.
INIT_STD = 0.01
#: Adam's constants.
BETAS, EPS = (0.9, 0.999), 1e-8


class Head(nn.Module):
    """A trained head: inputs ``[n, ...]`` to logits ``[n, C]`` (a number to regress: ``[n, 1]``)."""

    def groups(self, point: dict[str, Any]) -> list[dict[str, Any]]:
        """Return Adam's parameter groups: matrices are decayed, vectors are not.

        Args:
            point: a grid point, with ``lr`` and perhaps ``weight_decay``.
        """
        matrices = [parameter for parameter in self.parameters() if parameter.dim() > 1]
        vectors = [parameter for parameter in self.parameters() if parameter.dim() <= 1]
        return [
            {"params": matrices, "lr": point["lr"], "weight_decay": point.get("weight_decay", 0.0)},
            {"params": vectors, "lr": point["lr"]},
        ]


def linear_layer(width: int, outputs: int) -> nn.Linear:
    """Return a Linear with small first weights, bias 0."""
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=INIT_STD)
    nn.init.zeros_(layer.bias)
    return layer


class LinearHead(Head):
    """A linear layer on one embedding: ``[n, D]`` to ``[n, C]``."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.linear = linear_layer(width, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``[n, C]`` of embeddings ``[n, D]``."""
        return self.linear(inputs)


class Batch(NamedTuple):
    """Clips of one step, and the heads that see them: inputs ``[b, ...]``, targets ``[b, C]``."""

    members: Sequence[int]
    inputs: Any
    targets: Tensor


class Team(Protocol):
    """Heads that take their steps together, each by its own loss and settings; numbered from 0."""

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one step of Adam with every head that is in a batch; each is in one at most."""

    def logits(self, members: Sequence[int], inputs: Inputs, at_once: int) -> Tensor:
        """Return logits ``[r, n, C]`` of some heads for inputs ``[n, ...]``, nothing dropped, so many at a time."""

    def head(self, number: int) -> Head:
        """Return a head as it is now; it does not change any more."""

    def keep(self, members: Sequence[int]) -> None:
        """Go on with some heads only."""


@torch.no_grad()
def logits_of(heads: Sequence[Head], inputs: Inputs, at_once: int) -> Tensor:
    """Return logits ``[R, n, C]`` of heads for inputs ``[n, ...]``, nothing dropped, so many clips at a time."""
    for head in heads:
        head.eval()
    parts = [inputs[first : first + at_once] for first in range(0, len(inputs), at_once)]
    return torch.cat([torch.stack([head(part) for head in heads]) for part in parts], dim=1)


class ModuleTeam:
    """Heads as modules, with gradients by autograd.

    Args:
        heads: the heads.
        points: grid point of each.
        scaling: knows the loss.
    """

    def __init__(self, heads: Sequence[Head], points: Sequence[dict[str, Any]], scaling: Scaling) -> None:
        self._heads, self._scaling = heads, scaling
        # Groups of equal settings are one, which a fused step has to visit once.
        groups: dict[tuple[Any, ...], dict[str, Any]] = {}
        for head, point in zip(heads, points, strict=True):
            for group in head.groups(point):
                settings = {key: value for key, value in group.items() if key != "params"}
                groups.setdefault(tuple(settings.items()), {**settings, "params": []})["params"] += group["params"]
        self._optimiser = torch.optim.Adam(list(groups.values()), lr=points[0]["lr"], fused=True)

    def step(self, batches: Sequence[Batch]) -> None:
        """Take one step; a head that is in no batch has no gradient, and Adam leaves it alone."""
        self._optimiser.zero_grad()
        losses = []
        for batch in batches:
            for number in batch.members:
                losses.append(self._scaling.loss(self._heads[number].train()(batch.inputs), batch.targets))
        # A sum: each head has the gradient of its own loss.
        torch.stack(losses).sum().backward()
        self._optimiser.step()

    def logits(self, members: Sequence[int], inputs: Inputs, at_once: int) -> Tensor:
        """Return logits ``[r, n, C]``."""
        return logits_of([self._heads[number] for number in members], inputs, at_once)

    def head(self, number: int) -> Head:
        """Return a copy of a head."""
        return copy.deepcopy(self._heads[number])

    def keep(self, members: Sequence[int]) -> None:
        """Nothing: who is in no batch costs nothing."""


class LinearTeam:
    """Linear layers as one stack of weights: a step is two matrix products for each batch, and Adam's update.

    The gradient of all three losses with respect to the logits is what a head answers (probabilities, or the number
    itself) less the targets, over the clips; written out, it spares small layers autograd and an optimiser that goes
    from parameter to parameter.

    Args:
        heads: linear heads of one shape.
        points: grid point of each, with ``lr`` and perhaps ``weight_decay`` of the weights.
        scaling: knows the answers.
    """

    def __init__(self, heads: Sequence[Head], points: Sequence[dict[str, Any]], scaling: Scaling) -> None:
        layers = [head.linear for head in heads if isinstance(head, LinearHead)]
        self._heads, self._scaling = heads, scaling
        self._members = list(range(len(heads)))  # whose row is whose
        weights = torch.stack([layer.weight.detach() for layer in layers])  # [R, C, D]
        biases = torch.stack([layer.bias.detach()[:, None] for layer in layers])  # [R, C, 1]
        self._tensors = [weights, biases]
        self._means, self._squares = ([torch.zeros_like(each) for each in self._tensors] for _ in range(2))
        self._rates = torch.tensor([point["lr"] for point in points])[:, None, None]
        self._decays = torch.tensor([point.get("weight_decay", 0.0) for point in points])[:, None, None]
        self._steps = 0

    def _rows(self, members: Sequence[int]) -> slice | Tensor:
        """Return the rows of some heads: a view where they lie side by side."""
        rows = [self._members.index(number) for number in members]
        side_by_side = rows == list(range(rows[0], rows[0] + len(rows)))
        return slice(rows[0], rows[-1] + 1) if side_by_side else torch.tensor(rows)

    @torch.no_grad()
    def step(self, batches: Sequence[Batch]) -> None:
        """Take one step; every head that is kept is in a batch."""
        weights, biases = self._tensors
        slopes = [torch.empty_like(each) for each in self._tensors]
        for batch in batches:
            rows = self._rows(batch.members)
            weight, bias = weights[rows], biases[rows]  # [r, C, D], [r, C, 1]
            logits = functional.linear(batch.inputs, weight.flatten(0, 1), bias.flatten())  # [b, r * C]
            answers = self._scaling.answers(logits.unflatten(1, weight.shape[:2]))  # [b, r, C]
            error = ((answers - batch.targets[:, None]) / len(batch.inputs)).flatten(1)  # [b, r * C]
            slopes[0][rows] = (error.T @ batch.inputs).view_as(weight)
            slopes[1][rows] = error.sum(dim=0).view_as(bias)
        slopes[0].addcmul_(weights, self._decays)
        self._steps += 1
        first, second = (1 - beta**self._steps for beta in BETAS)
        for tensor, mean, square, slope in zip(self._tensors, self._means, self._squares, slopes, strict=True):
            mean.lerp_(slope, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(slope, slope, value=1 - BETAS[1])
            tensor.addcmul_(mean / square.sqrt().div_(second**0.5).add_(EPS), self._rates, value=-1 / first)

    @torch.no_grad()
    def logits(self, members: Sequence[int], inputs: Inputs, at_once: int) -> Tensor:
        """Return logits ``[r, n, C]``."""
        weight, bias = (each[self._rows(members)] for each in self._tensors)
        wide, flat = weight.flatten(0, 1), bias.flatten()
        parts = [inputs[first : first + at_once] for first in range(0, len(inputs), at_once)]
        found = [functional.linear(part, wide, flat).unflatten(1, weight.shape[:2]) for part in parts]
        return torch.cat(found).transpose(0, 1)

    @torch.no_grad()
    def head(self, number: int) -> Head:
        """Return a head with a copy of its row."""
        head = copy.deepcopy(self._heads[number])
        assert isinstance(head, LinearHead)
        weight, bias = (each[self._members.index(number)] for each in self._tensors)
        head.linear.weight.copy_(weight)
        head.linear.bias.copy_(bias[:, 0])
        return head

    def keep(self, members: Sequence[int]) -> None:
        """Leave out the rows of all others."""
        rows = self._rows(members)
        for tensors in (self._tensors, self._means, self._squares):
            tensors[:] = [each[rows].clone() for each in tensors]
        self._rates, self._decays = self._rates[rows], self._decays[rows]
        self._members = list(members)

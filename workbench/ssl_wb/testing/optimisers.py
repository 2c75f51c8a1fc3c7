"""The checks of an optimiser."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ssl_wb.plugin.contract_checks import refuse
from ssl_wb.plugin.optimiser import Optimiser
from ssl_wb.testing.checks import Checks, Subject
from ssl_wb.testing.options_checks import common_checks

__all__ = ["CHECKS", "check_optimiser"]

CHECKS: Checks[_Optimiser] = Checks("optimiser", common_checks())


class _Optimiser(Subject[Optimiser]):
    """An optimiser under test."""

    def made(self) -> tuple[nn.Module, Optimizer]:
        """Return a small model with the optimiser of its weights: matrices are decayed, vectors are not."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
        matrices = [weight for weight in model.parameters() if weight.dim() > 1]
        vectors = [weight for weight in model.parameters() if weight.dim() == 1]
        groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
        optimizer = self.build().build(groups)
        if not isinstance(optimizer, Optimizer):
            refuse(self.plugin, "return a torch.optim.Optimizer from build", type(optimizer).__name__)
        return model, optimizer


def check_optimiser(
    plugin: type[Optimiser], options: Mapping[str, Any] | None = None, *, skip: Collection[str] = ()
) -> None:
    """Hold an optimiser to its contract.

    Args:
        plugin: the class.
        options: options that differ from their defaults; give a learning rate that suits it.
        skip: names of checks to leave out.

    Raises:
        ContractError: the first check that fails.
    """
    CHECKS.run(_Optimiser(plugin, options or {}), skip)


def _loss(model: nn.Module, seed: int) -> Tensor:
    inputs = torch.randn(32, 6, generator=torch.Generator().manual_seed(seed))  # [B, 6]
    return (model(inputs) - inputs[:, :3].sin()).square().mean()


def _train(model: nn.Module, optimizer: Optimizer, steps: int, first: int = 0) -> None:
    """Train some steps."""
    for step in range(first, first + steps):
        optimizer.zero_grad()
        _loss(model, step).backward()
        optimizer.step()


def _weights(model: nn.Module) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


@CHECKS
def groups(subject: _Optimiser) -> None:
    """``build`` returns a torch optimiser with all parameters of the groups and each group's weight decay."""
    model, optimizer = subject.made()
    known = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    if known != {id(weight) for weight in model.parameters()}:
        refuse(subject.plugin, "optimise the parameters of all groups, and no others", f"{len(known)} of them")
    decays = {weight.dim(): group.get("weight_decay") for group in optimizer.param_groups for weight in group["params"]}
    if decays != {2: 0.1, 1: 0.0}:
        refuse(subject.plugin, "keep the weight_decay of each group: 0.1 of matrices, 0.0 of vectors", f"{decays}")


@CHECKS
def learns(subject: _Optimiser) -> None:
    """It lowers the loss of a small model in 40 steps, and all weights stay finite."""
    model, optimizer = subject.made()
    before = float(_loss(model, 0).detach())
    _train(model, optimizer, 40)
    after = float(_loss(model, 0).detach())
    if not bool(_weights(model).isfinite().all()) or not after < before:
        refuse(subject.plugin, "lower the loss of a small model", f"{before:.4g} before and {after:.4g} after")


@CHECKS
def learning_rate(subject: _Optimiser) -> None:
    """The learning rate of a step is that of ``param_groups``, where the schedule writes it: with 0 nothing moves."""
    model, optimizer = subject.made()
    _train(model, optimizer, 2)
    before = _weights(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    _train(model, optimizer, 1)
    if not torch.equal(before, _weights(model)):
        refuse(subject.plugin, "read the learning rate from param_groups in each step", "weights move at a rate of 0")


@CHECKS
def saved(subject: _Optimiser) -> None:
    """Its state is in ``state_dict()["state"]``, tensors and numbers: one that is restored continues alike."""
    model, optimizer = subject.made()
    _train(model, optimizer, 3)
    state = copy.deepcopy(optimizer.state_dict())
    for values in state["state"].values():
        for name, value in values.items():
            if value is not None and not isinstance(value, Tensor | int | float):
                refuse(subject.plugin, "keep tensors and numbers as its state", f"{name!r} is {type(value).__name__}")
    again, restored = subject.made()
    again.load_state_dict(model.state_dict())
    restored.load_state_dict({**restored.state_dict(), "state": state["state"]})
    _train(model, optimizer, 3, first=3)
    _train(again, restored, 3, first=3)
    if not torch.allclose(_weights(model), _weights(again), atol=1e-6):
        refuse(subject.plugin, "continue alike once its state is restored", "other weights after three steps")

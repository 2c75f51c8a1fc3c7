"""Means, sums and rows of all processes of a run; on one process they are the value itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = [
    "StepMean",
    "alone",
    "gather_with_gradient",
    "mean_over_processes",
    "own_rows",
    "process_place",
    "sum_with_gradient",
]

T = TypeVar("T")

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Compute as if this process were the only one: for what one process may have to give up without the others."""
    token = _ALONE.set(True)  # a context variable, so that other threads are not affected
    try:
        yield
    finally:
        _ALONE.reset(token)


def process_place() -> tuple[int, int]:
    """Return this process' rank and the number of processes; (0, 1) without a process group."""
    if _ALONE.get() or not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """Average a tensor of any shape over all processes, without gradient."""
    _, world = process_place()
    if world == 1:
        return value
    total = value.clone()  # all_reduce writes its result into its argument
    dist.all_reduce(total)
    return total / world


def gather_objects(value: T) -> list[T]:
    """Return a plain value of each process, in the order of their ranks; all processes call it."""
    _, world = process_place()
    if world == 1:
        return [value]
    everyone: list[Any] = [None] * world
    dist.all_gather_object(everyone, value)
    return everyone


class StepMean:
    """The mean of a figure over everything that one optimiser step sees: views, micro-batches and processes.

    For what moves once per optimiser step, as a centre does. A forward pass may run several times in a step (gradient
    accumulation) and must not move it: the micro-batches of a step would be treated differently.
    """

    def __init__(self) -> None:
        self._seen: list[Tensor] = []

    @torch.no_grad()
    def add(self, value: Tensor) -> None:
        """Note the figure of one view of one micro-batch; a tensor of any shape, always the same."""
        self._seen.append(value.detach())

    def clear(self) -> None:
        """Forget what was noted, of a step that is not taken; each process may do so alone."""
        self._seen.clear()

    def take(self) -> Tensor | None:
        """Return the mean of what was noted and forget it; None where nothing was.

        All processes have to call it equally often.
        """
        if not self._seen:
            return None
        # Every process has the same number of values, so the mean of means is the mean.
        mean = mean_over_processes(torch.stack(self._seen).mean(dim=0))
        self._seen.clear()
        return mean


# torch.distributed.nn has both of these, but its all_gather sends the gradient through an all-to-all that gloo lacks
# and emulates by one scatter per process; an all-reduce is one call on every backend.


class _Sum(torch.autograd.Function):
    """Sum over processes; every process' loss depends on every process' value, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    """Rows of all processes; the gradient of a process' rows is the sum of what all processes' losses make of them."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        _, world = process_place()
        # all_gather needs contiguous tensors; rows may be a transposed view.
        everyone = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world)]
        dist.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        rank, world = process_place()
        # Each process holds the gradient of its own loss with respect to everyone's rows: sum, then keep our rows.
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world)[rank]


def sum_with_gradient(value: Tensor) -> Tensor:
    """Sum a tensor of any shape over all processes.

    The gradient is that of the sum of all processes' losses; DDP's mean over processes turns it into that of their
    mean. Every process must call it, and run its backward, equally often and in the same order.
    """
    _, world = process_place()
    return value if world == 1 else _Sum.apply(value)


def gather_with_gradient(rows: Tensor) -> Tensor:
    """Stack rows ``[b, ...]`` of all processes in the order of their ranks: ``[world * b, ...]``.

    ``b`` is the same on all processes. The gradient is that of the sum of all processes' losses, as in
    :func:`sum_with_gradient`; rows without a gradient are gathered without one.
    """
    _, world = process_place()
    return rows if world == 1 else _Gather.apply(rows)


def own_rows(count: int, device: torch.device) -> Tensor:
    """Return where this process' ``count`` rows lie in what :func:`gather_with_gradient` returns, int64 ``[count]``."""
    return torch.arange(count, device=device) + process_place()[0] * count

"""Means over all processes of a run; on one process they are the value itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch import distributed as dist

__all__ = ["mean_over_processes"]


@torch.no_grad()
def mean_over_processes(value: Tensor) -> Tensor:
    """Average a tensor of any shape over all processes, without gradient."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()

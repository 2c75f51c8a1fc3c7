"""How several processes share one model: DDP, or FSDP where there are GPUs."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from ssl_wb.errors import UsageError

__all__ = ["check_strategy", "shard_as", "sharding", "whole"]


def sharding(strategy: Literal["ddp", "fsdp"], device: torch.device) -> Any | None:
    """Return Accelerate's plugin for ``train.strategy = "fsdp"``; None for DDP.

    The pretext model is sharded as one unit: its parts are called by methods of their own (``embed``, ``layers``, the
    teacher's MLP outputs), which FSDP's hooks on single blocks would miss. So weights, averages, gradients and
    optimiser state are sharded between steps, and whole during a step.

    Raises:
        UsageError: FSDP without CUDA, or on one process; Accelerate would silently train with DDP, or on one process.
    """
    if strategy == "ddp":
        return None
    if device.type != "cuda":
        raise UsageError(
            f"train.strategy = 'fsdp': FSDP needs CUDA, and this run is on the {device.type.upper()}",
            hint="--set train.strategy=ddp",
        )
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        raise UsageError(
            "train.strategy = 'fsdp': FSDP shares a model among processes, and there is 1",
            hint="ssl-wb train RECIPE --processes N, or --set train.strategy=ddp",
        )
    from accelerate import FullyShardedDataParallelPlugin
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="no_wrap",
        reshard_after_forward=False,
        # Weights stay float32 and autocast decides, as under DDP.
        mixed_precision_policy=MixedPrecisionPolicy(),
        cpu_ram_efficient_loading=False,
    )


def check_strategy(strategy: Literal["ddp", "fsdp"], got: str) -> None:
    """Refuse a launcher's strategy that is not the recipe's; UsageError names both.

    Args:
        strategy: ``train.strategy``.
        got: Accelerate's name for what it uses, such as ``MULTI_GPU`` or ``FSDP``.
    """
    if got in ("DEEPSPEED", "MEGATRON_LM") or (got == "FSDP") != (strategy == "fsdp"):
        raise UsageError(
            f"train.strategy = {strategy!r}, and Accelerate was launched for {got}",
            hint="leave the strategy to the recipe: no --use_fsdp or --use_deepspeed, nor a configuration with them",
        )


def whole(tensor: Tensor) -> Tensor:
    """Return a sharded tensor whole, on every process (all have to call it); other tensors unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_as(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this process' part of a whole tensor, sharded as ``like``; a tensor of another shape stays whole."""
    if not isinstance(like, DTensor) or tensor.shape != like.shape:
        return tensor
    local = tensor.to(like.device_mesh.device_type)
    # Every process has read the checkpoint itself, so nothing is sent between them.
    return distribute_tensor(local, like.device_mesh, like.placements, src_data_rank=None)

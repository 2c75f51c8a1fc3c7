"""Attention kernel, compiled blocks and recomputed blocks of a model, chosen once before training."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from ssl_wb.errors import UsageError
from ssl_wb.layers.attention import AttentionChoice, AttentionName, attention_name
from ssl_wb.layers.transformer import Attention, Block
from ssl_wb.pretext.build import build_model
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.load import LoadedRecipe
from ssl_wb.recipe.schema import TrainSection
from ssl_wb.runs.device import autocast_dtype

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["attention_choice", "check_kernels", "choose_attention", "prepare_kernels"]

#: Programs that torch.compile builds a CPU's kernels with; CXX in the environment names another.
_COMPILERS = ("g++", "clang++", "c++", "cl")


def attention_choice(options: object) -> AttentionChoice:
    """Return the option ``attention`` of a backbone; 'auto' where it has none."""
    return getattr(options, "attention", "auto")


def check_kernels(loaded: LoadedRecipe, accelerator: Accelerator) -> None:
    """Check, before anything is written, that this machine can train as the recipe says.

    Raises:
        UsageError: FSDP with gradient caching, or kernels that are not available here.
    """
    from accelerate import DistributedType  # half a second, and `validate` reads this module

    train = loaded.recipe.train
    if train.micro_batch is not None and accelerator.distributed_type == DistributedType.FSDP:
        raise UsageError(
            "train.micro_batch runs parts of the model by themselves, which FSDP does not allow",
            hint="set train.strategy = 'ddp', or leave out micro_batch",
        )
    if train.compile or train.checkpoint_blocks or attention_choice(loaded.backbone.options) == "xformers":
        with torch.device("meta"):
            model = build_model(loaded, total_steps=1000)
        prepare_kernels(model, train, accelerator.device, accelerator.mixed_precision)


def prepare_kernels(model: PretextModel, train: TrainSection, device: torch.device, precision: str) -> None:
    """Choose the attention of every layer, and the blocks that are compiled and recomputed.

    Args:
        model: student, predictor and teacher; the teacher has no backward pass, so it is never recomputed.
        train: the recipe's section.
        device: what the model is trained on.
        precision: Accelerate's word for the number format, ``no``, ``bf16`` or ``fp16``.

    Raises:
        UsageError: the recipe asks for what the device or the backbone does not offer.
    """
    choose_attention(model, device, autocast_dtype(precision))
    blocks = [module for module in model.backbone.trunk.modules() if isinstance(module, Block)]
    if (train.compile or train.checkpoint_blocks) and not blocks:
        key = "compile" if train.compile else "checkpoint_blocks"
        raise UsageError(
            f"train.{key} works on ssl_wb.api.Block, and backbone {type(model.backbone).name!r} has none",
            hint=f"leave out train.{key}",
        )
    for block in blocks[: round(train.checkpoint_blocks * len(blocks))]:
        block.recomputed = True
    if train.compile:
        _check_compiler(device)
        for module in model.modules():
            if isinstance(module, Block):
                module.compiled = True


def choose_attention(model: PretextModel, device: torch.device, dtype: torch.dtype) -> set[AttentionName]:
    """Set the attention of every layer, predictor and teacher included, and return what was chosen.

    Raises:
        UsageError: xformers is asked for and cannot serve.
    """
    choice = attention_choice(model.backbone.options)
    chosen: set[AttentionName] = set()
    for module in model.modules():
        if isinstance(module, Attention):
            module.kernel = attention_name(device, dtype, choice, module.qkv.in_features // module.heads)
            chosen.add(module.kernel)
    return chosen


def _check_compiler(device: torch.device) -> None:
    """Raise UsageError where torch.compile has no compiler."""
    if device.type == "cuda":
        if find_spec("triton") is None:
            raise UsageError("train.compile needs triton on CUDA", hint="pip install triton, or leave compile out")
        return
    asked = os.environ.get("CXX")
    if not any(shutil.which(name) for name in ((asked,) if asked else _COMPILERS)):
        raise UsageError(
            f"train.compile needs a C++ compiler on the CPU; found none of {asked or ', '.join(_COMPILERS)}",
            hint="install g++ or clang++, or leave train.compile out",
        )

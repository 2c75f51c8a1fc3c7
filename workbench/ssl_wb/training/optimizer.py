"""AdamW with the decay groups of MAE, or with decay on everything as MATPAC."""

from __future__ import annotations

import torch
from torch import nn

from ssl_wb.plugin.backbone import Backbone
from ssl_wb.recipe.schema import OptimizerSection

__all__ = ["build_optimizer"]


def build_optimizer(section: OptimizerSection, model: nn.Module) -> torch.optim.AdamW:
    """Build AdamW over the parameters that are trained.

    Biases, norms and tokens (all dimensions but the last of size 1), and what the backbone names in ``no_decay``, are
    not decayed unless ``decay_all``.
    """
    spared = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, Backbone)
        for name, parameter in module.named_parameters()
        if name in module.no_decay
    }
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.squeeze().dim() > 1 and id(parameter) not in spared
        (decayed if matrix or section.decay_all else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": section.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=section.lr,
        betas=(section.betas[0], section.betas[1]),
        eps=section.eps,
        fused=True,  # one kernel over all parameters, on CPU too
    )

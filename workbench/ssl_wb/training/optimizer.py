"""The optimiser of a run: which parameters are decayed, and the plugin that updates them."""

from __future__ import annotations

import torch
from torch import nn

from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.optimiser import Optimiser
from ssl_wb.recipe.plugin_selection import PluginSelection

__all__ = ["build_optimizer"]


def build_optimizer(selection: PluginSelection[Optimiser], model: nn.Module) -> torch.optim.Optimizer:
    """Build the recipe's optimiser over the parameters that are trained.

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
        # A bias [D] or a token [1, 1, D] has one dimension once those of size 1 are gone; a matrix has two or more.
        matrix = parameter.squeeze().dim() > 1 and id(parameter) not in spared
        (decayed if matrix or selection.options.decay_all else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": selection.options.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return selection.build().build([group for group in groups if group["params"]])

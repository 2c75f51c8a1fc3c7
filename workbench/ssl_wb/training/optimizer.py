"""The optimiser of a run: which parameters are decayed, and the plugin that updates them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.optimiser import Optimiser
from ssl_wb.recipe.plugin_selection import PluginSelection

__all__ = ["build_optimizer", "decay_groups"]


def build_optimizer(selection: PluginSelection[Optimiser], model: nn.Module) -> torch.optim.Optimizer:
    """Build the recipe's optimiser over the parameters that are trained, in groups by :func:`decay_groups`."""
    options = selection.options
    decayed, free = decay_groups(model, options.spared)
    groups = [
        {"params": list(decayed.values()), "weight_decay": options.weight_decay},
        {"params": list(free.values()), "weight_decay": 0.0},
    ]
    return selection.build().build([group for group in groups if group["params"]])


def decay_groups(
    model: nn.Module, spare: Literal["tokens", "vectors", "nothing"]
) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Divide the trained parameters, by name, into those that are decayed and those that are not.

    Args:
        model: the pretext model, or any other.
        spare: ``vectors`` exempts parameters of one dimension or none: biases, norms, scales (timm's rule). ``tokens``
            exempts also those with one dimension once those of size 1 are gone, such as tokens ``[1, 1, D]``, and what
            a backbone names in ``no_decay``. ``nothing`` decays all.
    """
    spared = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, Backbone)
        for name, parameter in module.named_parameters()
        if name in module.no_decay
    }
    decayed: dict[str, nn.Parameter] = {}
    free: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = {
            "nothing": False,
            "vectors": parameter.dim() < 2,
            "tokens": parameter.squeeze().dim() < 2 or id(parameter) in spared,
        }
        (free if exempt[spare] else decayed)[name] = parameter
    return decayed, free

"""Optimisers by name, for evaluators that train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ssl_wb.plugin.registry import load_registry

__all__ = ["build_optimiser"]


def build_optimiser(name: str, groups: Sequence[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    """Build an installed optimiser, the same that pre-training uses.

    Args:
        name: of the plugin, as ``adamw``, ``sgd``, ``lars`` or ``muon``.
        groups: torch's parameter groups: ``params`` and ``weight_decay``.
        options: the plugin's options, as ``lr``.

    Raises:
        PluginError: no such optimiser.
        ValueError: the options do not fit (pydantic's ValidationError).
    """
    plugin: Any = load_registry().get("optimiser", name)
    optimizer: torch.optim.Optimizer = plugin(plugin.Options(**options)).build(groups)
    return optimizer

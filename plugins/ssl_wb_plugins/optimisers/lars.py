"""LARS: layer-wise adaptive rate scaling, for large batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ssl_wb.api import Field, Optimiser, OptimiserOptions, hookimpl


class Lars(Optimiser):
    """SGD with momentum whose step is scaled, parameter by parameter, to the norm of the weights.

    ``g' = g + decay w``, ``scale = trust |w| / |g'|``, ``v = momentum v + scale g'``, ``w = w - lr v``. Parameters that
    are not decayed (biases, norms, tokens) are not scaled either, as in MAE's linear probing and SimCLR.
    """

    name = "lars"
    reference = "You et al. 2017, arXiv 1708.03888"

    class Options(OptimiserOptions):
        """Options."""

        momentum: float = Field(0.9, ge=0.0, lt=1.0, description="Momentum.")
        trust: float = Field(0.001, gt=0.0, description="Trust coefficient: the step's norm over the weights' at lr 1.")

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimiser."""
        return _Lars(groups, self.options.lr, self.options.momentum, self.options.trust)


class _Lars(torch.optim.Optimizer):
    """torch has no LARS."""

    def __init__(self, groups: Sequence[dict[str, Any]], lr: float, momentum: float, trust: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None  # as everywhere in training
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                update = weight.grad
                if group["weight_decay"] > 0:
                    update = update + group["weight_decay"] * weight
                    weight_norm, update_norm = weight.norm(), update.norm()
                    # A weight or gradient of zero gives no direction to scale: plain SGD there.
                    known = (weight_norm > 0) & (update_norm > 0)
                    scale = torch.where(known, group["trust"] * weight_norm / update_norm, 1.0)
                    update = scale * update
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(weight)
                velocity = state["momentum_buffer"]
                velocity.mul_(group["momentum"]).add_(update)
                weight.sub_(group["lr"] * velocity)


@hookimpl
def ssl_wb_optimisers() -> list[type[Optimiser]]:
    """Offer this optimiser."""
    return [Lars]

"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ssl_wb.api import Field, Optimiser, OptimiserOptions, hookimpl


class Sgd(Optimiser):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient."""

    name = "sgd"
    reference = "Sutskever et al. 2013 (momentum)"

    class Options(OptimiserOptions):
        """Options."""

        momentum: float = Field(0.9, ge=0.0, lt=1.0, description="Momentum.")
        nesterov: bool = Field(False, description="Nesterov's momentum.")

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.SGD:
        """Return torch's SGD."""
        options = self.options
        nesterov = options.nesterov and options.momentum > 0
        return torch.optim.SGD(groups, lr=options.lr, momentum=options.momentum, nesterov=nesterov)


@hookimpl
def ssl_wb_optimisers() -> list[type[Optimiser]]:
    """Offer this optimiser."""
    return [Sgd]

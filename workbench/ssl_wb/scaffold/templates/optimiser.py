"""An optimiser: how weights are updated from their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ssl_wb.api import Field, Optimiser, OptimiserOptions, hookimpl


class NewPluginOptions(OptimiserOptions):
    """Options besides those of every optimiser; every one has bounds and a description."""

    momentum: float = Field(0.9, ge=0.0, lt=1.0, description="Momentum.")


class NewPlugin(Optimiser):
    """RMSprop with momentum; replace it by your idea."""

    name = "new-plugin"
    reference = ""
    Options = NewPluginOptions
    options: NewPluginOptions

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimiser; the workbench sets the learning rate of each step."""
        return torch.optim.RMSprop(groups, lr=self.options.lr, momentum=self.options.momentum)


@hookimpl
def ssl_wb_optimisers() -> list[type[Optimiser]]:
    """Offer this optimiser."""
    return [NewPlugin]

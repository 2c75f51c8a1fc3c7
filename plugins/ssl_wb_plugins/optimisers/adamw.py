"""AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch

from ssl_wb.api import Field, Optimiser, OptimiserOptions, hookimpl

Factor = Annotated[float, Field(ge=0.0, le=1.0)]


class AdamW(Optimiser):
    """Adam with decoupled weight decay: the optimiser of every published system here."""

    name = "adamw"
    reference = "Loshchilov and Hutter 2019, arXiv 1711.05101"

    class Options(OptimiserOptions):
        """Options."""

        betas: list[Factor] = Field(
            default_factory=lambda: [0.9, 0.95], min_length=2, max_length=2, description="AdamW betas."
        )
        eps: float = Field(1e-8, gt=0.0, description="AdamW epsilon.")

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.AdamW:
        """Return torch's AdamW."""
        first, second = self.options.betas
        # Fused: one kernel over all parameters, on the CPU too.
        return torch.optim.AdamW(groups, lr=self.options.lr, betas=(first, second), eps=self.options.eps, fused=True)


@hookimpl
def ssl_wb_optimisers() -> list[type[Optimiser]]:
    """Offer this optimiser."""
    return [AdamW]

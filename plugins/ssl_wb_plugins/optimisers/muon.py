"""Muon for matrices, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch

from ssl_wb.api import Field, Optimiser, OptimiserOptions, hookimpl

Factor = Annotated[float, Field(ge=0.0, le=1.0)]


class Muon(Optimiser):
    """Momentum whose update of each matrix is made orthogonal (Newton-Schulz); AdamW for all that is no matrix.

    The step of a matrix is scaled so that its size matches AdamW's (``match_rms_adamw``), so one learning rate serves
    both.
    """

    name = "muon"
    reference = "Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982"

    class Options(OptimiserOptions):
        """Options."""

        momentum: float = Field(0.95, ge=0.0, lt=1.0, description="Momentum of matrices.")
        betas: list[Factor] = Field(
            default_factory=lambda: [0.9, 0.95], min_length=2, max_length=2, description="AdamW betas."
        )
        eps: float = Field(1e-8, gt=0.0, description="AdamW epsilon.")

    def build(self, groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the pair of optimisers as one."""
        return _MuonWithAdamW(groups, self.options)


class _MuonWithAdamW(torch.optim.Optimizer):
    """Two optimisers that share one list of groups and one state, so that checkpoints and schedules see one.

    Groups of matrices come first: each given group is split by the dimension of its parameters.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], options: Any) -> None:
        split = []
        for matrices in (True, False):
            for group in groups:
                own = [weight for weight in group["params"] if (weight.dim() == 2) is matrices]
                if own:
                    split.append({**group, "params": own, "matrices": matrices})
        super().__init__(split, {"lr": options.lr, "weight_decay": 0.0})
        first, second = options.betas
        makers: dict[bool, Callable[[list[dict[str, Any]]], torch.optim.Optimizer]] = {
            True: lambda of: torch.optim.Muon(
                of, lr=options.lr, momentum=options.momentum, adjust_lr_fn="match_rms_adamw"
            ),
            False: lambda of: torch.optim.AdamW(of, lr=options.lr, betas=(first, second), eps=options.eps),
        }
        self._parts: list[torch.optim.Optimizer] = []
        for matrices, make in makers.items():
            own_groups = [group for group in self.param_groups if group["matrices"] is matrices]
            if own_groups:
                part = make([dict(group) for group in own_groups])
                for group, made in zip(own_groups, part.param_groups, strict=True):
                    group.update({key: value for key, value in made.items() if key != "params"})
                self._parts.append(part)
        self._share()

    def _share(self) -> None:
        """Let the parts use this optimiser's groups and state, which a loaded checkpoint replaces."""
        for part in self._parts:
            matrices = part.param_groups[0]["matrices"]
            part.param_groups = [group for group in self.param_groups if group["matrices"] is matrices]
            part.state = self.state

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update matrices by Muon and the rest by AdamW."""
        assert closure is None  # as everywhere in training
        for part in self._parts:
            part.step()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load groups and state, and share them with the parts again."""
        super().load_state_dict(state_dict)
        self._share()


@hookimpl
def ssl_wb_optimisers() -> list[type[Optimiser]]:
    """Offer this optimiser."""
    return [Muon]

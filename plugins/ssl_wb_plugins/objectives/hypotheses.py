"""How many hypotheses: a number, or a population that grows and shrinks with what it is asked to predict."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from ssl_wb.api import Duration, Field, PluginOptions, mean_over_processes, model_validator, steps_of

#: Deviation of a new head from the one it copies, as a share of that head's root mean square.
NOISE = 0.02
#: The shares forget all but exp(-3), 5 %, of what was before the last review.
REVIEW_SPANS = 3.0
#: Fewest active hypotheses: with one there is nothing to choose from.
FEWEST = 2


class PopulationOptions(PluginOptions):
    """How many hypotheses there are, and how a population of them changes."""

    hypotheses: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        5,
        description="Predictions r per masked patch; 'auto' adds and retires them as they are needed, and what follows "
        "up to settled is for 'auto' only.",
    )
    capacity: int = Field(16, ge=FEWEST, description="Most hypotheses; all of their heads are computed.")
    start: int = Field(3, ge=FEWEST, description="Hypotheses at the first step, at most capacity.")
    review_from: Duration = Field(0.05, description="Nothing is added or retired before.")
    review_every: Duration = Field(0.02, description="Between reviews; one hypothesis at most comes or goes at each.")
    retire_below: float = Field(
        0.25, ge=0.0, lt=1.0, description="Retired below this many times the even share of wins, 1 / active."
    )
    grow_above: float = Field(
        1.5, gt=1.0, description="The busiest one is doubled above this many times the even share of wins."
    )
    settled: Duration = Field(0.7, description="Nothing is added or retired after.")

    @model_validator(mode="after")
    def _fits(self) -> PopulationOptions:
        if self.start > self.capacity:
            raise ValueError(f"start {self.start} is more than capacity {self.capacity}")
        return self

    @property
    def heads(self) -> int:
        """Heads r that are built."""
        return self.capacity if self.hypotheses == "auto" else self.hypotheses


class Population(nn.Module):
    """Which of the r heads take part, and the rule by which that changes.

    Every ``review_every`` steps the least-winning active hypothesis is retired when its share of the wins is below
    ``retire_below / active``; when none is, and the most-winning one has more than ``grow_above / active``, a free head
    becomes a copy of it, a little displaced, and each takes half of its share. A patch's win is divided as its weights
    q are: while the temperature is high the hypotheses are nearly the same and who comes closest says nothing; below
    the temperature's floor a win is a win.

    The rule looks at how the wins are spread and not at the loss: hypotheses that each cover as much as the others stay
    as they are, however much that is.

    Shapes never change and all state is in buffers, equal on all processes, so a resumed run continues bit for bit. The
    optimiser knows nothing of it: the moments of a head that is used again are what its earlier life left of them,
    decayed by the zero gradients since, and weight decay goes on shrinking an idle head, which the copy overwrites.
    """

    active: Tensor
    shares: Tensor
    grown: Tensor
    retired: Tensor

    def __init__(self, options: PopulationOptions) -> None:
        super().__init__()
        self.options = options
        active = torch.arange(options.heads) < options.start  # [r]
        self.register_buffer("active", active)
        self.register_buffer("shares", active / options.start)  # [r], EMA of each one's share of the wins
        self.register_buffer("grown", torch.zeros((), dtype=torch.int64))
        self.register_buffer("retired", torch.zeros((), dtype=torch.int64))
        self._seen: list[Tensor] = []  # shares [r] of each view of each micro-batch of the step

    @torch.no_grad()
    def count(self, weights: Tensor) -> None:
        """Note who won: weights ``[B, Nm, r]``, each patch's of sum 1."""
        self._seen.append(weights.float().mean(dim=(0, 1)))

    def figures(self) -> dict[str, Tensor | float]:
        """Return the population's size and history."""
        # Copies: the buffers move on before the figures are read.
        return {
            "active": self.active.sum().float(),
            "grown": self.grown.float(),
            "retired": self.retired.float(),
        }

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int, heads: nn.Linear) -> None:
        """Move the shares and, when one is due, hold a review.

        Args:
            step: optimiser steps done, this one included.
            total_steps: optimiser steps of the run.
            heads: the r heads as one layer, rows of a head together.
        """
        if not self._seen:
            return
        options = self.options
        first, last = steps_of(options.review_from, total_steps), steps_of(options.settled, total_steps)
        every = max(1, steps_of(options.review_every, total_steps))
        share = mean_over_processes(torch.stack(self._seen).mean(dim=0))  # [r]
        self._seen.clear()
        self.shares.lerp_(share, min(1.0, REVIEW_SPANS / every))
        if first < step <= last and (step - first) % every == 0:
            self._review(step, heads)

    def _review(self, step: int, heads: nn.Linear) -> None:
        """Retire one hypothesis, or double one, or leave all as they are."""
        active = self.active.nonzero().flatten().tolist()
        shares = self.shares.tolist()
        weakest, busiest = min(active, key=shares.__getitem__), max(active, key=shares.__getitem__)
        if len(active) > FEWEST and shares[weakest] < self.options.retire_below / len(active):
            self._retire(weakest)
        elif len(active) < self.options.capacity and shares[busiest] > self.options.grow_above / len(active):
            free = int(self.active.logical_not().nonzero()[0])
            self._grow(busiest, free, step, heads)

    def _retire(self, one: int) -> None:
        """Take a hypothesis out; the others share its wins as they share the rest."""
        self.active[one] = False
        self.shares[one] = 0.0
        self.shares.div_(self.shares.sum())
        self.retired.add_(1)

    def _grow(self, source: int, free: int, step: int, heads: nn.Linear) -> None:
        """Make the free head a displaced copy of the source."""
        # On the CPU and seeded from the step: the same numbers on every process and device, and after a resume.
        generator = torch.Generator().manual_seed(step)
        for parameter in (heads.weight, heads.bias):
            rows = parameter.view(self.options.capacity, -1)  # [r, values of a head]
            noise = torch.randn(rows.shape[1], generator=generator).to(rows)
            rows[free] = rows[source] + NOISE * rows[source].square().mean().sqrt() * noise
        self.active[free] = True
        self.shares[source] /= 2
        self.shares[free] = self.shares[source]
        self.grown.add_(1)

"""How many hypotheses multiple choice learning has: a fixed number, or a population that grows and shrinks."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from ssl_wb.api import Duration, Field, Metrics, PluginOptions, StepMean, model_validator, steps_of

#: Deviation of a new head from the one it copies, as a share of that head's root mean square. An exact copy would get
#: the same gradient for ever.
NOISE = 0.02
#: Time constants of the shares' moving average between two reviews: exp(-3) = 5 % is left of what was before the last.
REVIEW_SPANS = 3.0
#: Fewest active hypotheses: with one there is nothing to choose from.
FEWEST = 2


class PopulationOptions(PluginOptions):
    """How many hypotheses there are, and how a population of them changes."""

    hypotheses: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        5,
        description="Predictions r per masked patch; 'auto' adds and retires them as they are needed. The options "
        "from capacity to settled are for 'auto' only.",
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

    At each review the least-winning active hypothesis is retired when its share of the wins is below
    ``retire_below / active``. When none is, and the most-winning one has more than ``grow_above / active``, a free head
    becomes a copy of it with some noise added, and each takes half of its share. A patch's win is divided as its
    weights q are: while the temperature is high the hypotheses are nearly the same and which one is closest says
    nothing; below the temperature's floor one hypothesis has the whole win.

    The rule looks at how the wins are spread and not at the loss: hypotheses that all win alike stay as they are.

    Shapes never change and all state is in buffers, equal on all processes, so a resumed run continues bit for bit. The
    optimiser is not told: a head that is used again starts with the moments of its earlier use, decayed by the zero
    gradients since; weight decay goes on shrinking an inactive head, which the copy overwrites.
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
        self.wins = StepMean()  # of shares [r]

    def count(self, weights: Tensor) -> None:
        """Note who won: weights ``[B, Nm, r]``, each patch's of sum 1."""
        self.wins.add(weights.detach().float().mean(dim=(0, 1)))

    def figures(self) -> Metrics:
        """Return the population's size and history."""
        # float() copies: after_step changes the buffers before the figures are read.
        return {"active": self.active.sum().float(), "grown": self.grown.float(), "retired": self.retired.float()}

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int, heads: nn.Linear) -> None:
        """Move the shares and, when one is due, hold a review.

        Args:
            step: optimiser steps done, this one included.
            total_steps: optimiser steps of the run.
            heads: the r heads as one layer, rows of a head together.
        """
        share = self.wins.take()  # [r]
        if share is None:
            return
        options = self.options
        first, last = steps_of(options.review_from, total_steps), steps_of(options.settled, total_steps)
        every = max(1, steps_of(options.review_every, total_steps))
        self.shares.lerp_(share, min(1.0, REVIEW_SPANS / every))
        if first < step <= last and (step - first) % every == 0:
            self._review(step, heads)

    def _review(self, step: int, heads: nn.Linear) -> None:
        """Retire one hypothesis, or double one, or leave all as they are."""
        active = self.active.nonzero().flatten().tolist()
        shares = self.shares.tolist()
        weakest, busiest = min(active, key=shares.__getitem__), max(active, key=shares.__getitem__)
        # Retiring comes first: a population that needs both makes room before it grows.
        if len(active) > FEWEST and shares[weakest] < self.options.retire_below / len(active):
            self.active[weakest] = False
            self.shares[weakest] = 0.0
            self.shares.div_(self.shares.sum())  # the others share its wins as they share the rest
            self.retired.add_(1)
        elif len(active) < self.options.capacity and shares[busiest] > self.options.grow_above / len(active):
            free = int(self.active.logical_not().nonzero()[0])
            self._grow(busiest, free, step, heads)

    def _grow(self, source: int, free: int, step: int, heads: nn.Linear) -> None:
        """Make the free head a copy of the source with noise added."""
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

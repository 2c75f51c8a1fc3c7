"""Multiple choice learning over several hypotheses per masked patch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.api import (
    Field,
    HealthRule,
    ModelShapes,
    Objective,
    ObjectiveOutput,
    StepState,
    View,
    direction_std,
    effective_rank,
    full_precision,
    hookimpl,
    initialise,
)
from ssl_wb_plugins.objectives.hypotheses import Population, PopulationOptions

#: Share of the run after which the published schedule reaches its floor (MATPAC++'s release: 78 %).
FLOOR_REACHED = 230_256 / 294_816


class MclOptions(PopulationOptions):
    """Options of multiple choice learning."""

    temperature: float = Field(0.1, gt=0.0, description="Temperature T0 of the hypotheses' weights at the first step.")
    temperature_decay: float | Literal["auto"] = Field(
        "auto",
        description="Factor of the temperature per step (published: 0.99997); 'auto' reaches the floor at 78 % of the "
        "run, where the published run does.",
    )
    temperature_floor: float = Field(
        1e-4, gt=0.0, description="At or below it the best hypothesis takes all the weight."
    )


def hypothesis_distances(hypotheses: Tensor, target: Tensor) -> Tensor:
    """Return ``2 - 2 cos`` of hypotheses ``[B, Nm, r, D]`` and targets ``[B, Nm, D]`` as ``[B, Nm, r]``, in float32.

    The dot products are divided by the hypotheses' lengths afterwards: normalising the hypotheses themselves, the
    largest tensor of the step, would write it three times over.
    """
    hypotheses, target = hypotheses.float(), F.normalize(target.float(), dim=-1)
    with full_precision(target.device):
        dots = torch.einsum("bmrd,bmd->bmr", hypotheses, target)
    lengths = torch.linalg.vector_norm(hypotheses, dim=-1).clamp_min(1e-12)
    return 2.0 - 2.0 * dots / lengths


def hypothesis_weights(distances: Tensor, temperature: float, floor: float) -> Tensor:
    """Weigh hypotheses by how close they come.

    Args:
        distances: ``[..., r]``, ``2 - 2 cos`` of each hypothesis and the target; infinite where one takes no part.
        temperature: T; the weights are ``softmax(-distances / T)``.
        floor: at or below it, all the weight is on the closest one.

    Returns:
        ``[..., r]`` of sum 1, without gradient; exactly 0 where the distance is infinite.
    """
    distances = distances.detach()
    if temperature <= floor:
        return torch.zeros_like(distances).scatter_(-1, distances.argmin(dim=-1, keepdim=True), 1.0)
    return (-distances / temperature).softmax(dim=-1)


class Mcl(Objective):
    """Predicts several hypotheses per masked patch and trains those that come close.

    loss = sum_k q_k l_k, l_k = 2 - 2 cos(prediction_k, target), q = softmax(-l / T) without gradient; T falls
    geometrically and below its floor only the best hypothesis learns. The best one is handed on to later objectives.

    Beyond the paper, r may be "auto": hypotheses that seldom win are retired, one that wins much is doubled.
    """

    name = "mcl"
    reference = "MATPAC++, arXiv 2508.12709; annealed MCL, arXiv 2407.15580"
    Options = MclOptions
    options: MclOptions
    needs = frozenset({"features", "target"})
    provides = frozenset({"prediction"})

    def __init__(self, options: MclOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        # The r linear heads are one matrix, r x D rows; Xavier bounds are those of a single head.
        self.heads = nn.Linear(shapes.feature_dim, options.heads * shapes.latent_dim)
        self.apply(initialise)
        for rows in self.heads.weight.data.chunk(options.heads):
            nn.init.xavier_uniform_(rows)
        self.population = Population(options) if options.hypotheses == "auto" else None

    def temperature_at(self, step: int, total_steps: int) -> float:
        """Return T after ``step`` optimiser steps: ``max(floor, T0 * decay ** step)``."""
        options = self.options
        decay = options.temperature_decay
        if decay == "auto":
            reach = max(1.0, FLOOR_REACHED * total_steps)
            decay = (options.temperature_floor / options.temperature) ** (1.0 / reach)
        return max(options.temperature_floor, options.temperature * decay**step)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the weighted distance over patches, clips and views."""
        temperature = self.temperature_at(state.step, state.total_steps)
        losses: list[Tensor] = []
        winners: list[Tensor] = []
        metrics: dict[str, Tensor | float] = {"temperature": temperature}
        if self.population is not None:
            metrics |= self.population.figures()
        for number, view in enumerate(state.views):
            hypotheses = self._hypotheses(view)  # [B, Nm, r, D]
            distances = hypothesis_distances(hypotheses, view.target)  # [B, Nm, r]
            # An idle hypothesis is infinitely far where it competes. Its own distance, finite, meets a weight of 0 in
            # the loss: 0 times infinity would be no number, nor would its gradient.
            contest = distances.detach()
            if self.population is not None:
                contest = contest.masked_fill(~self.population.active, torch.inf)
            weights = hypothesis_weights(contest, temperature, self.options.temperature_floor)  # [B, Nm, r]
            if self.population is not None and self.training:
                self.population.count(weights)
            losses.append((weights * distances).sum(dim=-1).mean())
            winner = contest.argmin(dim=-1)  # [B, Nm]
            winners.append(hypotheses.take_along_dim(winner[:, :, None, None], dim=2).squeeze(2))  # [B, Nm, D]
            if state.measure and number == 0:
                metrics |= self._health(hypotheses, winner, winners[0], view.target)
        return ObjectiveOutput(torch.stack(losses).mean(), metrics, tuple(winners))

    def _hypotheses(self, view: View) -> Tensor:
        """Return every head's prediction of a view's masked patches, ``[B, Nm, r, D]``, idle heads' too."""
        batch, masked, _ = view.features.shape
        return self.heads(view.features).view(batch, masked, self.options.heads, self.shapes.latent_dim)

    def _taking_part(self, hypotheses: Tensor) -> tuple[list[int], Tensor]:
        """Return the numbers of the active hypotheses, and these of ``[B, Nm, r, D]``."""
        if self.population is None:
            return list(range(self.options.heads)), hypotheses
        active = self.population.active.nonzero().flatten()
        return active.tolist(), hypotheses.index_select(2, active)

    def after_step(self, step: int, total_steps: int) -> None:
        """Review the population, where there is one."""
        if self.population is not None:
            self.population.after_step(step, total_steps, self.heads)

    @torch.no_grad()
    def uncertainty(self, view: View) -> Tensor:
        """Return the mean of ``2 - 2 cos`` over pairs of active hypotheses, float32 ``[B, Nm]``; 0 when there is one.

        ``view`` is one with ``features``.
        """
        active, hypotheses = self._taking_part(self._hypotheses(view))
        if len(active) == 1:
            return torch.zeros(hypotheses.shape[:2], device=hypotheses.device)
        directions = F.normalize(hypotheses.float(), dim=-1)
        # 2 - 2 cos is the squared distance of unit vectors, and its mean over pairs twice their variance: never
        # negative, and 0 to the last digit for equal ones.
        return 2.0 * directions.var(dim=2, unbiased=True).sum(dim=-1)

    @torch.no_grad()
    def _health(self, hypotheses: Tensor, winner: Tensor, best: Tensor, target: Tensor) -> dict[str, Tensor | float]:
        """Measure the active hypotheses.

        ``hypotheses`` ``[B, Nm, r, D]``, ``winner`` ``[B, Nm]``, ``best`` and ``target`` ``[B, Nm, D]``.
        """
        shares = torch.bincount(winner.flatten(), minlength=self.options.heads) / winner.numel()  # [r]
        active, hypotheses = self._taking_part(hypotheses)
        count = len(active)
        figures: dict[str, Tensor | float] = {f"won_by_{k}": shares[k] for k in active}
        figures["largest_share"] = shares.max()
        if self.population is not None:
            figures["dominance"] = (shares.max() * count - 1.0) / (count - 1)
        if count > 1:
            directions = F.normalize(hypotheses.float(), dim=-1)
            with full_precision(directions.device):
                cosines = torch.einsum("bmkd,bmld->kl", directions, directions) / winner.numel()  # [r, r]
            figures["pairwise_distance"] = 2.0 - 2.0 * (cosines.sum() - cosines.trace()) / (count * (count - 1))
        figures["prediction_std"] = direction_std(best)
        figures["target_std"] = direction_std(target)
        figures["target_rank"] = effective_rank(target)
        return figures

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Predictions that no longer differ, or hypotheses that no longer compete."""
        rules = [HealthRule.collapse("prediction_std", "the predictions")]
        if self.options.heads > 1:
            rules += [
                HealthRule(
                    # Of a population, relative to its size: 0 when all win alike, 1 when one wins all.
                    "largest_share" if self.population is None else "dominance",
                    "one hypothesis wins nearly every patch, the others learn nothing "
                    "(start from a higher mcl temperature, or use malap)",
                    above=0.97,
                    after=0.05,
                ),
                HealthRule(
                    "pairwise_distance",
                    "the hypotheses are the same prediction several times over "
                    "(let the mcl temperature fall faster, or use malap)",
                    below=1e-4,
                    after=0.05,
                ),
            ]
        return tuple(rules)


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register multiple choice learning."""
    return [Mcl]

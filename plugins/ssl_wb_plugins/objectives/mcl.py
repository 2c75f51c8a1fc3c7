"""Multiple choice learning: several hypotheses per masked patch, of which the closest learn (MATPAC++)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from ssl_wb.api import (
    Field,
    HealthRule,
    Metrics,
    ModelShapes,
    Objective,
    ObjectiveOutput,
    StepState,
    View,
    collapse_figures,
    full_precision,
    hookimpl,
    initialise,
    model_validator,
    unit_vectors,
)
from ssl_wb_plugins.objectives.hypotheses import Population, PopulationOptions

#: Share of the run after which the published schedule reaches its floor, 78 %: 0.1 * 0.99997 ** step falls to 1e-4 at
#: step 230,256 of the 294,816 of MATPAC++'s release.
FLOOR_REACHED = 230_256 / 294_816


class MclOptions(PopulationOptions):
    """Options of multiple choice learning."""

    selection: Literal["annealed", "greedy", "mean"] = Field(
        "annealed",
        description="Which hypotheses learn: those that come close, weighed by a falling temperature (MATPAC++); only "
        "the closest one from the first step on; or all alike.",
    )
    temperature: float = Field(0.1, gt=0.0, description="Temperature T0 of the hypotheses' weights at the first step.")
    temperature_decay: Annotated[float, Field(gt=0.0, le=1.0)] | Literal["auto"] = Field(
        "auto",
        description="Factor of the temperature per step (published: 0.99997); 'auto' reaches the floor at 78 % of the "
        "run, where the published run does.",
    )
    temperature_floor: float = Field(
        1e-4, gt=0.0, description="At or below it the best hypothesis takes all the weight."
    )

    @model_validator(mode="after")
    def _falls(self) -> MclOptions:
        if self.temperature < self.temperature_floor:
            raise ValueError(
                f"temperature {self.temperature} is below temperature_floor {self.temperature_floor}: it would rise"
            )
        return self


def hypothesis_distances(hypotheses: Tensor, target: Tensor) -> Tensor:
    """Return ``2 - 2 cos`` of hypotheses ``[B, Nm, r, D]`` and targets ``[B, Nm, D]`` as ``[B, Nm, r]``, in float32.

    The dot products are divided by the hypotheses' lengths afterwards: normalising the hypotheses themselves, the
    largest tensor of the step, would write it three times over.
    """
    hypotheses, target = hypotheses.float(), unit_vectors(target)
    # Autocast would run the einsum in half precision, whose rounding is as large as the distances between hypotheses.
    with full_precision(target.device):
        dots = torch.einsum("bmrd,bmd->bmr", hypotheses, target)  # [B, Nm, r]
    lengths = torch.linalg.vector_norm(hypotheses, dim=-1).clamp_min(1e-12)  # [B, Nm, r]; F.normalize's own floor
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
    # Without gradient, as published. With it, dL/dl_k of L = sum_k q_k l_k would be q_k (1 - (l_k - L) / T):
    # negative where l_k > L + T, so that far hypotheses would be pushed away from the target.
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
        # The r linear heads are one matrix of r * D rows, for one large product instead of r small ones. Each head's
        # rows are drawn apart: the bounds of Xavier's distribution depend on the height of the matrix.
        self.heads = nn.Linear(shapes.feature_dim, options.heads * shapes.latent_dim)
        self.apply(initialise)
        for rows in self.heads.weight.data.chunk(options.heads):  # [D, Dd]
            nn.init.xavier_uniform_(rows)
        self.population = Population(options) if options.hypotheses == "auto" else None

    def temperature_at(self, step: int, total_steps: int) -> float:
        """Return T after ``step`` optimiser steps: ``max(floor, T0 * decay ** step)``."""
        # High at first, when all hypotheses are guesses and all should learn; low later, when each has its own answers.
        # After a fall that is too fast some hypotheses never win again, as in plain winner-takes-all.
        options = self.options
        decay = options.temperature_decay
        if decay == "auto":
            # T0 * decay ** reach = floor, solved for decay.
            reach = max(1.0, FLOOR_REACHED * total_steps)
            decay = (options.temperature_floor / options.temperature) ** (1.0 / reach)
        return max(options.temperature_floor, options.temperature * decay**step)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the weighted distance over patches, clips and views."""
        temperature = self.temperature_at(state.step, state.total_steps)
        outputs = []
        for view in state.views:
            hypotheses = self._hypotheses(view)  # [B, Nm, r, D]
            distances = hypothesis_distances(hypotheses, view.target)  # [B, Nm, r]
            # An inactive hypothesis gets an infinite distance where hypotheses compete. In the loss its finite distance
            # meets a weight of 0, because infinity times 0 is NaN, and so is its gradient.
            competing = distances.detach()  # [B, Nm, r]
            if self.population is not None:
                competing = competing.masked_fill(~self.population.active, torch.inf)
            weights = self._weights(competing, temperature)  # [B, Nm, r]
            if self.population is not None and self.training:
                self.population.count(weights)
            loss = (weights * distances).sum(dim=-1).mean()
            # Later objectives get the closest hypothesis at any temperature; their gradient reaches its head alone.
            winner = competing.argmin(dim=-1)  # [B, Nm]
            best = hypotheses.take_along_dim(winner[:, :, None, None], dim=2).squeeze(2)  # [B, Nm, D]
            metrics = self._health(hypotheses, winner, best, view.target) if state.measures(view) else {}
            outputs.append(ObjectiveOutput(loss, metrics, (best,)))
        output = ObjectiveOutput.over_views(outputs)
        output.metrics["temperature"] = temperature
        if self.population is not None:
            output.metrics |= self.population.figures()
        return output

    def _weights(self, competing: Tensor, temperature: float) -> Tensor:
        """Weigh hypotheses by distances ``[B, Nm, r]``, infinite where one is inactive, as ``selection`` says."""
        if self.options.selection == "mean":
            part = competing.isfinite().float()
            return part / part.sum(dim=-1, keepdim=True)
        floor = self.options.temperature_floor
        return hypothesis_weights(competing, 0.0 if self.options.selection == "greedy" else temperature, floor)

    def _hypotheses(self, view: View) -> Tensor:
        """Return every head's prediction of a view's masked patches, ``[B, Nm, r, D]``, those of inactive heads too."""
        batch, masked, _ = view.features.shape
        return self.heads(view.features).view(batch, masked, self.options.heads, self.shapes.latent_dim)

    def _taking_part(self, hypotheses: Tensor) -> tuple[list[int], Tensor]:
        """Return the numbers of the active hypotheses, and these of ``[B, Nm, r, D]``."""
        if self.population is None:
            return list(range(self.options.heads)), hypotheses
        active = self.population.active.nonzero().flatten()
        return active.tolist(), hypotheses.index_select(2, active)

    def after_step(self, step: int, total_steps: int) -> None:
        """Let the population add or retire a hypothesis, where there is one."""
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
        directions = unit_vectors(hypotheses)  # [B, Nm, active, D]
        # 2 - 2 cos is the squared distance of unit vectors, and its mean over pairs is twice their variance. Unlike a
        # sum of cosines this is never negative, and exactly 0 for equal hypotheses.
        return 2.0 * directions.var(dim=2, unbiased=True).sum(dim=-1)

    @torch.no_grad()
    def _health(self, hypotheses: Tensor, winner: Tensor, best: Tensor, target: Tensor) -> Metrics:
        """Measure the active hypotheses.

        ``hypotheses`` ``[B, Nm, r, D]``, ``winner`` ``[B, Nm]``, ``best`` and ``target`` ``[B, Nm, D]``.
        """
        shares = torch.bincount(winner.flatten(), minlength=self.options.heads) / winner.numel()  # [r]
        active, hypotheses = self._taking_part(hypotheses)
        count = len(active)
        figures: Metrics = {f"won_by_{k}": shares[k] for k in active}
        figures["largest_share"] = shares.max()
        if self.population is not None:
            # 0 when all active ones win alike and 1 when one wins all, however many there are.
            figures["dominance"] = (shares.max() * count - 1.0) / (count - 1)
        if count > 1:
            directions = unit_vectors(hypotheses)  # [B, Nm, active, D]
            with full_precision(directions.device):
                cosines = torch.einsum("bmkd,bmld->kl", directions, directions) / winner.numel()  # [active, active]
            # The trace is each hypothesis with itself; the rest are the pairs, each twice.
            figures["pairwise_distance"] = 2.0 - 2.0 * (cosines.sum() - cosines.trace()) / (count * (count - 1))
        return figures | collapse_figures(best, target)

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Return the rules for predictions that no longer differ, and for hypotheses that no longer compete."""
        rules = [HealthRule.collapse("prediction_std", "the predictions")]
        if self.options.heads > 1:
            rules += [
                HealthRule(
                    # A population changes its size, and with it the largest share that is still healthy.
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

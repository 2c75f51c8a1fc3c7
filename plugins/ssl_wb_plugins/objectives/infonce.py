"""Contrast of clips: find a clip's other view among the views of all other clips (SimCLR, AudioMosaic)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.api import (
    Field,
    GlobalBatchNorm,
    HealthRule,
    Metrics,
    ModelShapes,
    Objective,
    ObjectiveOutput,
    PluginOptions,
    StepState,
    direction_std,
    effective_rank,
    full_precision,
    gather_with_gradient,
    hookimpl,
    initialise_trunc_normal,
    model_validator,
    own_rows,
    process_place,
    uniformity,
    unit_vectors,
)

#: A learned temperature stays between these: at 0.01 cosines are multiplied by 100, and the hardest negative is nearly
#: all of the loss; at 1 all negatives count alike.
TEMPERATURES = (0.01, 1.0)


class InfoNceOptions(PluginOptions):
    """Options of the contrast of clips."""

    hidden: int = Field(512, ge=1, description="Width of the projector's hidden layer.")
    out: int = Field(128, ge=1, description="Width of the projections that are compared.")
    temperature: float = Field(0.1, gt=0.0, description="Temperature of the softmax over clips.")
    learnable_temperature: bool = Field(
        False, description="Train the temperature, from 'temperature' and within 0.01 to 1."
    )

    @model_validator(mode="after")
    def _consistent(self) -> InfoNceOptions:
        low, high = TEMPERATURES
        if self.learnable_temperature and not low <= self.temperature <= high:
            raise ValueError(f"temperature {self.temperature:g} must lie in {low:g} to {high:g} to be learnable")
        return self


def ntxent(views: Sequence[Tensor], temperature: Tensor | float) -> tuple[Tensor, Tensor]:
    """Contrast each projection with those of all clips on all processes (NT-Xent).

    The anchors are this process' ``V * b`` projections. For each other view of its clip an anchor has one loss: the
    cross-entropy of finding that view among the ``V * (m - 1)`` projections of other clips, ``m = world * b``. Of two
    views this is SimCLR's loss, with ``2m - 1`` candidates per anchor. A clip that is twice in the batch is its own
    negative, as published.

    Args:
        views: V of ``[b, d]``, of any length; row i of each is the same clip. V >= 2, b the same on all processes.
        temperature: positive.

    Returns:
        Two float32 scalars: the loss, mean over anchors and their positives, and the share of positives that are more
        alike than every negative. Without another clip the loss is 0.
    """
    directions = unit_vectors(torch.stack(tuple(views), dim=1))  # [b, V, d]
    # With gradient: an embedding is an anchor here and a negative elsewhere, and both have to move it.
    everyone = gather_with_gradient(directions)  # [m, V, d]
    b, V = directions.shape[:2]
    rows = torch.arange(b, device=directions.device)  # [b]
    own = own_rows(b, directions.device)  # [b], where this process' clips are in everyone
    with full_precision(directions.device):
        logits = torch.einsum("bvd,mwd->bvmw", directions, everyone) / temperature  # [b, V, m, V]
    # The anchor itself and the other views of its clip are no negatives. The lowest number and not -inf: for the only
    # clip of a batch, logsumexp of nothing but -inf would have a NaN gradient.
    same = torch.arange(len(everyone), device=own.device) == own[:, None]  # [b, m]
    negatives = logits.masked_fill(same[:, None, :, None], torch.finfo(logits.dtype).min).flatten(2)  # [b, V, m * V]
    positives = logits[rows, :, own]  # [b, V, V]; the diagonal is the anchor with itself
    # -log(e^p / (e^p + sum e^n)) = softplus(logsumexp(n) - p), which never computes e^p itself: it could overflow.
    losses = F.softplus(negatives.logsumexp(dim=-1, keepdim=True) - positives)  # [b, V, V]
    hits = (positives > negatives.amax(dim=-1, keepdim=True)).float()  # [b, V, V]
    pairs = 1.0 - torch.eye(V, device=rows.device)  # [V, V], without the anchor with itself
    count = b * V * (V - 1)
    return (losses * pairs).sum() / count, (hits.detach() * pairs).sum() / count


def positive_similarity(views: Sequence[Tensor]) -> Tensor:
    """Return the mean cosine of two views ``[b, d]`` of a clip, over clips and pairs of views, without gradient."""
    directions = unit_vectors(torch.stack([view.detach() for view in views], dim=1))  # [b, V, d]
    V = directions.shape[1]
    # The squared length of a clip's sum of V unit vectors is V plus the cosines of all ordered pairs.
    return ((directions.sum(dim=1).square().sum(dim=-1) - V) / (V * (V - 1))).mean()


class InfoNce(Objective):
    """Finds a clip's other view among the views of all clips of all processes.

    loss = -log(exp(<z, z+> / t) / sum of exp(<z, z'> / t) over z+ and all views z' of other clips), z the normalised
    output of a projector over the clip embedding: Linear, BN, ReLU, Linear, BN, its statistics those of all processes.
    Other clips are those of one forward pass: gradient accumulation adds none.
    """

    name = "infonce"
    reference = "AudioMosaic, arXiv 2605.14231; SimCLR, arXiv 2002.05709, equation 1"
    Options = InfoNceOptions
    options: InfoNceOptions
    needs = frozenset({"pooled"})
    contrasts: ClassVar[bool] = True

    def __init__(self, options: InfoNceOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        if shapes.views < 2:
            raise ValueError(
                "infonce compares two views of a clip, and the masker gives one; choose one that gives two"
            )
        # The loss makes its input indifferent to what augmentations change; the projector takes that upon itself and is
        # thrown away after training (SimCLR, section 4.2). Linear layers have no bias where a BN follows, which would
        # subtract it.
        self.projector = nn.Sequential(
            nn.Linear(shapes.latent_dim, options.hidden, bias=False),
            GlobalBatchNorm(options.hidden),
            nn.ReLU(),
            nn.Linear(options.hidden, options.out, bias=False),
            GlobalBatchNorm(options.out, bias_frozen=True),
        )
        self.projector.apply(initialise_trunc_normal)
        # The logarithm is trained: the temperature stays positive, and a step changes it by a factor.
        self.log_temperature: nn.Parameter | None = None
        if options.learnable_temperature:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(options.temperature)))

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the loss over this process' anchors; the mean over processes is that of the whole batch."""
        learned = self.log_temperature
        temperature = self.options.temperature if learned is None else learned.exp()
        # One pass per view: BN takes its statistics from one view, as in the published two forward passes.
        projections = [self.projector(view.pooled) for view in state.views]  # V of [b, out]
        loss, accuracy = ntxent(projections, temperature)
        similarity = positive_similarity(projections)
        # A guess picks among the positive and all V views of the other clips of all processes.
        candidates = 1 + (process_place()[1] * len(projections[0]) - 1) * len(projections)
        metrics: Metrics = {
            "accuracy": accuracy,
            "positive_similarity": similarity,
            "temperature": temperature.detach() if isinstance(temperature, Tensor) else temperature,
            "accuracy_over_chance": accuracy * candidates,
        }
        if state.measure and len(projections[0]) > 1:  # a single clip has no spread
            metrics |= {
                # The last BN spreads what it is given, so collapse does not show in the projections' own deviation.
                "embedding_std": direction_std(state.views[0].pooled),
                "projection_rank": effective_rank(projections[0]),
                # Wang, Isola 2020: how close positives are, and how evenly all clips are spread.
                "alignment": 2.0 - 2.0 * similarity,
                "uniformity": uniformity(projections[0]),
            }
        return ObjectiveOutput(loss, metrics)

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Keep a learned temperature within its bounds."""
        # Not by a clamp in forward: beyond a bound it has no gradient, and the temperature would stay there.
        if self.log_temperature is not None:
            self.log_temperature.clamp_(math.log(TEMPERATURES[0]), math.log(TEMPERATURES[1]))

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Return the rules for embeddings that no longer differ, and for a choice that is no better than a guess."""
        return (
            HealthRule.collapse(
                "embedding_std",
                "the clip embeddings",
                over="clip",
                remedy="lower the learning rate, or lengthen train.warmup",
                below=0.01,
                after=0.05,
            ),
            HealthRule(
                # Not the loss: at a low temperature an untrained model's confident mistakes cost more than guessing.
                "accuracy_over_chance",
                "a clip's other view is found no better than by guessing: nothing is being learned "
                "(raise the learning rate, mask less, or soften the augmentations)",
                below=1.5,
                after=0.1,
            ),
        )


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register the contrast of clips."""
    return [InfoNce]

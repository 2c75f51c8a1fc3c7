"""Two objectives: latents of several teacher blocks, and soft codes of what the first one predicts."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_wb.api import (
    Block,
    Duration,
    Field,
    GlobalBatchNorm,
    HealthRule,
    ModelShapes,
    Need,
    Objective,
    ObjectiveOutput,
    PluginOptions,
    StepState,
    UsageError,
    View,
    direction_std,
    effective_rank,
    ema_update,
    feature_std,
    full_precision,
    gather_rows,
    gather_with_gradient,
    hookimpl,
    initialise,
    initialise_trunc_normal,
    linear_schedule,
    mean_over_processes,
    process_place,
    standardise_rows,
    steps_of,
    uniformity,
    warmup_cosine,
)

API_VERSION = 1


class LadderOptions(PluginOptions):
    """Options of the ladder."""

    blocks: int = Field(2, ge=1, description="Last teacher blocks that are averaged.")
    pixels: float = Field(0.1, ge=0.0, description="Weight of the patches' own pixels.")


class Ladder(Objective):
    """Predicts the mean of the teacher's last blocks and of their MLPs' outputs, and pixels a little."""

    name = "api1-ladder"
    reference = "made up"
    Options = LadderOptions
    options: LadderOptions
    needs: frozenset[Need] = frozenset({"features", "layers", "branches"})
    provides = frozenset({"prediction"})

    def __init__(self, options: LadderOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        self.block = Block(shapes.feature_dim, 2, mlp_ratio=2.0)
        self.head = nn.Linear(shapes.feature_dim, shapes.latent_dim)
        self.decoder = nn.Linear(shapes.feature_dim, shapes.patch_pixels)
        self.apply(initialise_trunc_normal)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average over patches, clips and views."""
        predictions, losses, pixels = [], [], []
        for view in state.views:
            features = self.block(view.features)  # [B, Nm, Dd]
            prediction = self.head(features)  # [B, Nm, D]
            with full_precision(prediction.device):
                losses.append(functional.smooth_l1_loss(prediction.float(), self._target(view)))
                masked = gather_rows(view.patches, view.mask.masked)
                pixels.append(functional.mse_loss(self.decoder(features).float(), standardise_rows(masked)))
            predictions.append(prediction)
        loss, pixel_loss = torch.stack(losses).mean(), torch.stack(pixels).mean()
        metrics: dict[str, Tensor | float] = {"latents": loss.detach(), "pixels": pixel_loss.detach()}
        if state.measure:
            metrics["prediction_std"] = direction_std(predictions[0])
            metrics["prediction_rank"] = effective_rank(predictions[0])
            metrics["feature_std"] = feature_std(state.views[0].latents)
            metrics["progress"] = state.progress
        return ObjectiveOutput(loss + self.options.pixels * pixel_loss, metrics, tuple(predictions))

    def _target(self, view: View) -> Tensor:
        depth = len(view.layers)
        if self.options.blocks > depth:
            raise UsageError(f"api1-ladder: blocks {self.options.blocks}, and there are {depth}", hint="give fewer")
        last = view.finish(torch.stack(view.layers[-self.options.blocks :]).mean(dim=0))
        added = torch.stack([standardise_rows(one) for one in view.branches[-self.options.blocks :]]).mean(dim=0)
        target = standardise_rows(last + 0.5 * added).detach()  # [B, K, D]
        return target if self.shapes.teacher_sees == "masked" else gather_rows(target, view.mask.masked)

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Predictions that no longer differ."""
        return (HealthRule.collapse("prediction_std", "the predictions"),)


class CodesOptions(PluginOptions):
    """Options of the codes."""

    codes: int = Field(16, ge=2, description="Number of codes.")
    warm: Duration = Field(0.25, description="Stretch over which the temperature falls.")
    decay: float = Field(0.9, ge=0.0, le=1.0, description="EMA decay of the slow codes at the first step.")


class Codes(Objective):
    """Assigns predictions to the codes that the target is assigned to, and keeps clips apart."""

    name = "api1-codes"
    Options = CodesOptions
    options: CodesOptions
    needs: frozenset[Need] = frozenset({"features", "target", "pooled", "prediction"})
    centre: Tensor

    def __init__(self, options: CodesOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        assert min(shapes.views, shapes.grid.cells, shapes.caption_dim) > 0
        self.codes = nn.Linear(shapes.latent_dim, options.codes, bias=False)
        self.guesses = nn.Linear(shapes.feature_dim, 2 * shapes.latent_dim)
        self.norm = GlobalBatchNorm(shapes.latent_dim, affine=False)
        self.apply(initialise)
        self.slow = copy.deepcopy(self.codes).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(options.codes))
        self._seen: list[Tensor] = []
        self._warm = steps_of(options.warm, shapes.total_steps)

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average over patches, clips and views."""
        heat = warmup_cosine(state.step, state.total_steps, self._warm, peak=0.5, last=0.2)
        losses = []
        for view in state.views:
            with torch.no_grad():
                wanted = self.slow(view.target)  # [B, Nm, codes]
                self._seen.append(wanted.float().mean(dim=(0, 1)))
                shares = ((wanted.float() - self.centre) / heat).softmax(dim=-1)
            found = self.codes(view.prediction + self._guess(view).mean(dim=2)).float().log_softmax(dim=-1)
            losses.append(-(shares * found).sum(dim=-1).mean())
        rank, _ = process_place()
        pooled = self.norm(state.views[0].pooled.float())  # [B, D]
        everyone = functional.normalize(gather_with_gradient(pooled), dim=1)
        likeness = functional.normalize(pooled, dim=1) @ everyone.T  # [B, world * B]
        own = torch.arange(len(pooled), device=pooled.device) + rank * len(pooled)
        apart = functional.cross_entropy(likeness / 0.5, own)
        metrics: dict[str, Tensor | float] = {"heat": heat, "apart": apart.detach()}
        if state.measure:
            metrics["uniformity"] = uniformity(pooled)
            metrics["centre_spread"] = self.centre.std()
        return ObjectiveOutput(torch.stack(losses).mean() + 0.1 * apart, metrics)

    def _guess(self, view: View) -> Tensor:
        """Return two guesses, ``[B, Nm, 2, D]``."""
        return self.guesses(view.features).unflatten(-1, (2, -1))

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Move the slow codes and the centre."""
        ema_update(self.slow, self.codes, linear_schedule(self.options.decay, 1.0, step, total_steps))
        if self._seen:
            self.centre.lerp_(mean_over_processes(torch.stack(self._seen).mean(dim=0)), 0.1)
            self._seen.clear()

    def uncertainty(self, view: View) -> Tensor:
        """Return the distance of the two guesses, ``[B, Nm]``."""
        one, other = self._guess(view).float().unbind(dim=2)
        return 1.0 - torch.cosine_similarity(one, other, dim=-1)

    def assignments(self, latents: Tensor) -> Tensor:
        """Return probabilities of codes, ``[B, N, codes]``."""
        return ((self.slow(latents).float() - self.centre) / 0.2).softmax(dim=-1)

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Clips that are all alike."""
        return (
            HealthRule(metric="uniformity", meaning="all clips have nearly the same embedding", above=-0.01, after=0.5),
        )


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register both."""
    return [Ladder, Codes]


@hookimpl
def ssl_wb_recipes() -> list[Path]:
    """Ship the recipe that uses all plugins of this package."""
    return [Path(__file__).with_name("ssl_wb_api1.toml")]

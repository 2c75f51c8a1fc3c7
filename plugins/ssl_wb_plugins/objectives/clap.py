"""Contrast of clips and their captions."""

from __future__ import annotations

import math
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
    PluginOptions,
    StepState,
    direction_std,
    full_precision,
    gather_with_gradient,
    hookimpl,
    initialise,
    process_place,
)

#: Bounds of the logarithm of the scale; it starts at ln(1 / 0.07).
LOG_SCALES = (0.0, math.log(100.0))
FIRST_LOG_SCALE = math.log(1.0 / 0.07)


class ClapOptions(PluginOptions):
    """Options of the contrast with captions."""

    gather: Literal["full", "local"] = Field(
        "full",
        description="On several processes, pass the gradient to the embeddings of all of them, so that their number "
        "does not matter ('full'), or to a process' own only, as published ('local').",
    )
    duplicates: Literal["negatives", "positives"] = Field(
        "negatives",
        description="What another clip of the batch with the very same caption is: a negative, as published, or a "
        "positive and no negative ('positives'), for captions that are labels.",
    )


def contrast(anchors: Tensor, candidates: Tensor, scale: Tensor | float, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Find each anchor's counterpart by softmax over scaled cosines.

    Args:
        anchors: float32 ``[b, d]``, L2-normalised.
        candidates: float32 ``[m, d]``, L2-normalised.
        scale: factor of the cosines, one over a temperature.
        targets: float32 ``[b, m]``: each row sums to 1 over the anchor's positives; the rest are negatives.

    Returns:
        Two scalars: the loss, and the share of anchors whose best candidate is a positive; means over anchors. The
        loss of a positive is the cross-entropy of finding it among the negatives; of several, their mean.
    """
    with full_precision(anchors.device):
        logits = scale * (anchors @ candidates.T)  # [b, m]
    # Other positives are left out of the denominator. To share the target of one softmax among them would be no
    # change at all: clips of equal captions have equal rows and columns, over which the published loss sums already.
    negatives = logits.masked_fill(targets > 0, torch.finfo(logits.dtype).min).logsumexp(dim=-1, keepdim=True)  # [b, 1]
    loss = (targets * F.softplus(negatives - logits)).sum(dim=-1).mean()
    hits = targets.gather(1, logits.detach().argmax(dim=-1, keepdim=True)) > 0  # [b, 1]
    return loss, hits.float().mean()


class Clap(Objective):
    """Finds a clip's caption among those of the batch, and a caption's clip.

    loss = half the sum of both cross-entropies over s * <a, t>, all clips and captions of all processes as candidates:
    a = the normalised output of a two-layer MLP over the mean of the visible patches' latents (no class token), t = the
    normalised caption embedding, mapped to the same width where it has another; the scale s is learned, within 1 to
    100. Of several views the mean. Published as a small addition (0.01) to M2D's loss.
    """

    name = "clap"
    reference = "M2D-CLAP, arXiv 2406.02032; CLIP, arXiv 2103.00020"
    Options = ClapOptions
    options: ClapOptions
    needs = frozenset({"captions"})

    def __init__(self, options: ClapOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        dim = shapes.latent_dim
        self.audio_projector = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.text_projector = nn.Identity() if shapes.caption_dim == dim else nn.Linear(shapes.caption_dim, dim)
        self.apply(initialise)
        self.log_scale = nn.Parameter(torch.tensor(FIRST_LOG_SCALE))

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the loss over this process' clips and captions, both directions and the views."""
        scale = self.log_scale.exp()
        targets = self._targets(state.captions)  # [b, m]
        text = F.normalize(self.text_projector(state.captions).float(), dim=-1)  # [b, D]
        texts = self._everyone(text)  # [m, D]
        losses: list[Tensor] = []
        metrics: dict[str, Tensor | float] = {"scale": scale.detach()}
        for number, view in enumerate(state.views):
            audio = F.normalize(self.audio_projector(view.latents.mean(dim=1)).float(), dim=-1)  # [b, D]
            to_text, found_text = contrast(audio, texts, scale, targets)
            to_audio, found_audio = contrast(text, self._everyone(audio), scale, targets)
            losses.append((to_text + to_audio) / 2)
            if number == 0:
                metrics |= {"audio_to_text_accuracy": found_text, "text_to_audio_accuracy": found_audio}
            if state.measure and number == 0 and len(audio) > 1:
                metrics |= {"audio_std": direction_std(audio), "text_std": direction_std(text)}
        return ObjectiveOutput(torch.stack(losses).mean(), metrics)

    def _everyone(self, rows: Tensor) -> Tensor:
        """Stack the rows ``[b, D]`` of all processes: ``[m, D]``; with ``local``, others' are without gradient."""
        if self.options.gather == "full":
            return gather_with_gradient(rows)
        rank, world = process_place()
        everyone = list(gather_with_gradient(rows.detach()).chunk(world))
        everyone[rank] = rows
        return torch.cat(everyone)

    @torch.no_grad()
    def _targets(self, captions: Tensor) -> Tensor:
        """Say which of all captions belong to each of these ``[b, C]``: float32 ``[b, m]``, rows sum to 1."""
        rank, world = process_place()
        b = len(captions)
        own = torch.arange(b, device=captions.device)[:, None] + rank * b  # [b, 1]
        same = torch.arange(world * b, device=captions.device) == own  # [b, m]
        if self.options.duplicates == "positives":
            # The largest difference in any dimension, without a [b, m, C] tensor.
            everyone = gather_with_gradient(captions.detach().float())  # [m, C]
            same = same | (torch.cdist(captions.float(), everyone, p=math.inf) == 0)
        return same / same.sum(dim=1, keepdim=True)

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Keep the scale within its bounds."""
        self.log_scale.clamp_(*LOG_SCALES)

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Audio embeddings that no longer differ."""
        return (
            HealthRule(
                "audio_std",
                "the clips' embeddings beside the captions are nearly the same for every clip "
                "(lower the weight of clap, or the learning rate)",
                below=0.02,
                after=0.05,
            ),
        )


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register the contrast with captions."""
    return [Clap]

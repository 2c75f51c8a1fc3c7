"""Contrast of clips and captions: find a clip's caption among those of the batch, and the reverse (CLAP, M2D-CLAP)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.api import (
    Field,
    HealthRule,
    Metrics,
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
    own_rows,
    process_place,
    unit_vectors,
)

#: Bounds of the logarithm of the scale, and where it starts: CLIP's, which found larger scales to be unstable.
LOG_SCALES = (0.0, math.log(100.0))
FIRST_LOG_SCALE = math.log(1.0 / 0.07)


class ClapOptions(PluginOptions):
    """Options of the contrast with captions."""

    gather: Literal["full", "released", "local"] = Field(
        "full",
        description="On several processes: 'full' passes the gradient to the embeddings of all of them, so that their "
        "number does not matter. 'released' computes the loss of all clips on each process, with gradient to its own "
        "embeddings: on W processes the full gradient over W, as in M2D-CLAP's code. 'local', of version 0.1, computes "
        "the loss of a process' own clips, with gradient to its own embeddings.",
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
    with full_precision(anchors.device):  # multiplied by up to 100, the rounding of bf16 would be 0.4
        logits = scale * (anchors @ candidates.T)  # [b, m]
    # Other positives are left out of the denominator, which holds one positive and the negatives. Sharing the target of
    # one softmax among the positives would change nothing: clips of equal captions have equal rows and columns, over
    # which the published loss sums already.
    negatives = logits.masked_fill(targets > 0, torch.finfo(logits.dtype).min).logsumexp(dim=-1, keepdim=True)  # [b, 1]
    # softplus(log sum e^n - p) = -log(e^p / (e^p + sum e^n)), the cross-entropy of one positive.
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
    contrasts: ClassVar[bool] = True

    def __init__(self, options: ClapOptions, shapes: ModelShapes) -> None:
        super().__init__(options, shapes)
        dim = shapes.latent_dim
        self.audio_projector = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.text_projector = nn.Identity() if shapes.caption_dim == dim else nn.Linear(shapes.caption_dim, dim)
        self.apply(initialise)
        # The logarithm is trained: the scale stays positive, and a step changes it by a factor.
        self.log_scale = nn.Parameter(torch.tensor(FIRST_LOG_SCALE))

    def forward(self, state: StepState) -> ObjectiveOutput:
        """Average the loss over this process' clips and captions, both directions and the views."""
        scale = self.log_scale.exp()
        targets = self._targets(state.captions)  # [b, m]
        text = self.embed_captions(state.captions)  # [b, D]
        texts = self._everyone(text)  # [m, D]
        outputs = []
        for view in state.views:
            audio = self.embed_audio(view.latents)  # [b, D]
            audios = self._everyone(audio)  # [m, D]
            own_audio, own_text = (audios, texts) if self.options.gather == "released" else (audio, text)
            to_text, found_text = contrast(own_audio, texts, scale, targets)
            to_audio, found_audio = contrast(own_text, audios, scale, targets)
            metrics: Metrics = {"audio_to_text_accuracy": found_text, "text_to_audio_accuracy": found_audio}
            if state.measures(view) and len(audio) > 1:  # a single clip has no spread
                metrics |= {"audio_std": direction_std(audio), "text_std": direction_std(text)}
            outputs.append(ObjectiveOutput((to_text + to_audio) / 2, metrics))
        output = ObjectiveOutput.over_views(outputs)
        output.metrics["scale"] = scale.detach()
        return output

    def embed_audio(self, latents: Tensor) -> Tensor:
        """Map the latents of patches ``[B, K, D]`` to unit vectors ``[B, D]``: their mean, without the class token."""
        return unit_vectors(self.audio_projector(latents.mean(dim=1)))

    def embed_captions(self, captions: Tensor) -> Tensor:
        """Map sentence embeddings ``[m, C]`` to unit vectors ``[m, D]``."""
        return unit_vectors(self.text_projector(captions))

    def similarity_scale(self) -> float:
        """Return the learnt factor of cosines."""
        return float(self.log_scale.exp())

    def _everyone(self, rows: Tensor) -> Tensor:
        """Stack the rows ``[b, D]`` of all processes: ``[m, D]``; unless ``full``, those of others have no gradient."""
        if self.options.gather == "full":
            return gather_with_gradient(rows)
        rank, world = process_place()
        everyone = list(gather_with_gradient(rows.detach()).chunk(world))
        everyone[rank] = rows
        return torch.cat(everyone)

    @torch.no_grad()
    def _targets(self, captions: Tensor) -> Tensor:
        """Return which of all captions belong to each clip: float32 ``[b, m]``, rows sum to 1.

        The rows are this process' clips, or those of all processes with ``released``: ``[m, m]``.
        """
        rows = own_rows(len(captions), captions.device)  # [b]
        everyone_rows = torch.arange(process_place()[1] * len(rows), device=rows.device)  # [m]
        if self.options.gather == "released":
            rows = everyone_rows
        same = everyone_rows == rows[:, None]  # [b, m]
        if self.options.duplicates == "positives":
            # Equal where the largest difference in any dimension is 0; cdist needs no [b, m, C] tensor for it.
            everyone = gather_with_gradient(captions.detach().float())  # [m, C]
            same = same | (torch.cdist(everyone[rows], everyone, p=math.inf) == 0)
        return same / same.sum(dim=1, keepdim=True)

    @torch.no_grad()
    def after_step(self, step: int, total_steps: int) -> None:
        """Keep the scale within its bounds."""
        # Not by a clamp in forward: beyond a bound it has no gradient, and the scale would stay there.
        self.log_scale.clamp_(*LOG_SCALES)

    def health_rules(self) -> tuple[HealthRule, ...]:
        """Return the rule for audio embeddings that no longer differ."""
        what, remedy = "the clips' embeddings beside the captions", "lower the weight of clap, or the learning rate"
        return (HealthRule.collapse("audio_std", what, over="clip", remedy=remedy, after=0.05),)


@hookimpl
def ssl_wb_objectives() -> list[type[Objective]]:
    """Register the contrast with captions."""
    return [Clap]

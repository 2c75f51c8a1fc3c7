"""The encoder of a run that was trained beside captions: it compares clips with sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from ssl_wb.data.captions import embed_captions
from ssl_wb.encoder.clip_vectors import clip_tokens
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.errors import UsageError
from ssl_wb.plugin.caption_space import SharedSpace
from ssl_wb.pretext.model import PretextModel
from ssl_wb.recipe.schema import CaptionsSection

__all__ = ["CaptionSpace", "CaptionedEncoder"]


class CaptionSpace:
    """What a run learnt about captions: its objective, and the text encoder that its captions went through.

    Args:
        model: the run's pretext model.
        section: its captions.

    Raises:
        UsageError: the captions were files of embeddings, whose text encoder is not known.
    """

    def __init__(self, model: PretextModel, section: CaptionsSection) -> None:
        if section.source == "embedding":
            raise UsageError(
                "the run read caption embeddings from files: which text encoder made them is not known",
                hint="set data.captions.source = 'caption' and data.captions.encoder in its recipe.resolved.toml",
            )
        (objective,) = [one for one in model.objectives.values() if isinstance(one, SharedSpace)][:1]
        self.objective = cast(SharedSpace, objective)
        self.section = section
        cast(nn.Module, objective).requires_grad_(False).eval()
        self.sentences = cache(self._sentences)

    @torch.no_grad()
    def _sentences(self, captions: tuple[str, ...]) -> Tensor:
        """Return the unit vectors of sentences, ``[m, d]``."""
        embedded = torch.from_numpy(embed_captions(list(captions), self.section))  # [m, C]
        device = next(cast(nn.Module, self.objective).parameters()).device
        return self.objective.embed_captions(embedded.to(device))


class CaptionedEncoder(FrozenEncoder):
    """As :class:`FrozenEncoder`, and it compares clips with sentences.

    Args:
        arguments: as for :class:`FrozenEncoder`.
        space: loads the caption space at its first call.
        options: as for :class:`FrozenEncoder`.
    """

    def __init__(self, *arguments: Any, space: Callable[[], CaptionSpace], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._space = space

    @torch.no_grad()
    def match_captions(self, waveform: Tensor, captions: Sequence[str], lengths: Tensor | None = None) -> Tensor:
        """Return the cosines of clips and sentences.

        Every patch of a clip takes part, as visible patches did in training.

        Args:
            waveform: ``[B, S]`` or ``[S]`` at ``sample_rate``, full scale 1.
            captions: m sentences.
            lengths: int64 ``[B]``, samples of each clip; all of S when None.

        Returns:
            float32 ``[B, m]``.

        Raises:
            UsageError: an unusable waveform, no sentence, or captions that were files of embeddings.
            DataError: the text encoder cannot be loaded.
        """
        if not captions:
            raise UsageError("no sentence to compare clips with", hint="give at least one")
        waveform, lengths = self._checked(waveform, lengths)
        space = self._space()
        sentences = space.sentences(tuple(captions))  # [m, d]
        clips = [space.objective.embed_audio(tokens[None]) for tokens in clip_tokens(self, waveform, lengths)]
        return torch.cat(clips) @ sentences.T

    def similarity_scale(self) -> float:
        """Return the factor of cosines before a softmax over sentences, as learnt."""
        return self._space().objective.similarity_scale()

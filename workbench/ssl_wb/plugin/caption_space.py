"""Objectives that bring clips and sentences into one space, and encoders that can compare the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["CaptionMatchingEncoder", "SharedSpace"]


@runtime_checkable
class SharedSpace(Protocol):
    """An objective that maps clips and captions into one space; the workbench checks with ``isinstance``.

    With such an objective a run can name sounds that it has no labels for: ``ssl-wb classify``, the evaluators
    ``zero-shot`` and ``caption-retrieval``.
    """

    def embed_audio(self, latents: Tensor) -> Tensor:
        """Map the latents of all patches of clips, ``[B, K, D]``, to unit vectors ``[B, d]``."""
        ...

    def embed_captions(self, captions: Tensor) -> Tensor:
        """Map sentence embeddings ``[m, C]`` to unit vectors ``[m, d]``."""
        ...

    def similarity_scale(self) -> float:
        """Return the factor of cosines before a softmax over candidates: one over a temperature."""
        ...


@runtime_checkable
class CaptionMatchingEncoder(Protocol):
    """An encoder that can compare clips with sentences; an evaluator checks with ``isinstance``."""

    def match_captions(self, waveform: Tensor, captions: Sequence[str], lengths: Tensor | None = None) -> Tensor:
        """Return the cosines ``[B, m]`` of clips ``[B, S]`` (``lengths [B]`` samples each) and m sentences."""
        ...

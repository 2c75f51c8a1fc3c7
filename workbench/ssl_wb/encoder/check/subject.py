"""What is checked, and how far two of its embeddings are apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from ssl_wb.errors import WorkbenchError
from ssl_wb.plugin.evaluator import Encoder

__all__ = ["ROUNDING", "Change", "Check", "Row", "Subject", "Verdict", "must_hold", "property_of", "told"]

#: What must not matter may move an embedding by this share of the distance between two clips: rounding.
ROUNDING = 1e-3
#: What may matter counts as no change up to this share.
STEADY = 0.05


class Verdict(StrEnum):
    """What a row says.

    Attributes:
        OK: as users expect it.
        NOTE: no fault, and something to know before the encoder is used.
        FAULT: it breaks what users rely on.
        UNCHECKED: could not be measured here.
    """

    OK = "ok"
    NOTE = "note"
    FAULT = "fault"
    UNCHECKED = "not checked"


@dataclass(frozen=True)
class Change:
    """How far an embedding moved; of several clips the one that moved most.

    Attributes:
        cosine: between before and after.
        relative: distance over the mean distance between two of the test clips.
    """

    cosine: float
    relative: float

    def __str__(self) -> str:
        share = 100 * self.relative
        how_far = "less than 0.1 %" if share < 0.1 else f"{share:.1f} %"
        return f"moves by {how_far}, cosine {self.cosine:.4f}"


@dataclass(frozen=True)
class Row:
    """One line of a passport.

    Attributes:
        check: what was done, in few words.
        measured: what was seen, as text.
        verdict: see :class:`Verdict`.
        meaning: what follows for a user.
        change: how far the embedding moved, where that was measured.
        figures: further numbers, for JSON.
    """

    check: str
    measured: str
    verdict: Verdict
    meaning: str
    change: Change | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the row as JSON-able values."""
        change = {"cosine": self.change.cosine, "relative": self.change.relative} if self.change else None
        return {
            "check": self.check,
            "measured": self.measured,
            "verdict": self.verdict.value,
            "meaning": self.meaning,
            "change": change,
            **({"figures": self.figures} if self.figures else {}),
        }


class Subject:
    """An encoder and the clips it is checked with.

    Args:
        encoder: any encoder.
        clips: ``[B, S]`` at its sample rate, B at least 2.
        longest: seconds of the longest clip that it is given.

    Attributes:
        base: float64 ``[B, D]``, embeddings of the clips, one by one.
        spread: mean distance between the embeddings of two clips.
    """

    def __init__(self, encoder: Encoder, clips: Tensor, longest: float) -> None:
        self.encoder, self.clips, self.longest = encoder, clips, longest
        self.rate = encoder.sample_rate
        self.base = self.one_by_one(clips)
        pairs = torch.pdist(self.base)  # [B (B - 1) / 2]
        self.spread = float(pairs.mean())

    @property
    def hop(self) -> float | None:
        """Seconds between two frames; None where the encoder has no frames in time."""
        hop = float(getattr(self.encoder, "hop_seconds", float("nan")))
        return hop if hop > 0 else None  # NaN is not above 0

    @property
    def device(self) -> torch.device:
        """Where the encoder computes, as far as it says."""
        parameters = list(self.encoder.parameters()) if isinstance(self.encoder, nn.Module) else []
        return parameters[0].device if parameters else torch.device(getattr(self.encoder, "device", "cpu"))

    def embed(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed ``[n, S]`` in one batch as float64 ``[n, D]`` on the CPU."""
        return self.encoder.embed_clip(waveform, lengths).detach().double().cpu()

    def one_by_one(self, waveform: Tensor) -> Tensor:
        """Embed ``[n, S]`` each alone."""
        return torch.cat([self.embed(one[None]) for one in waveform])

    def frames(self, waveform: Tensor) -> Tensor:
        """Embed one clip ``[S]`` as frames, float64 ``[T, D]``."""
        return self.encoder.embed_frames(waveform[None]).detach().double().cpu()[0]

    def change(self, after: Tensor, before: Tensor | None = None) -> Change:
        """Return how far embeddings ``[n, D]`` moved from ``before``, the clips' own unless given."""
        before = self.base if before is None else before
        cosine = torch.cosine_similarity(before, after, dim=1)  # [n]
        relative = (after - before).norm(dim=1) / max(self.spread, 1e-30)  # [n]
        return Change(float(cosine.min()), float(relative.max()))


def told(error: Exception) -> str:
    """Say in one line that an encoder failed, and how."""
    text = error.message if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
    return f"fails: {' '.join(text.split())}"


#: A check; it may raise, which counts as a fault.
Check = Callable[[Subject], Row]


def must_hold(check: str, change: Change, meaning: str, broken: str) -> Row:
    """Return the row of something that must not move an embedding by more than rounding.

    Args:
        check: what was done.
        change: what was seen.
        meaning: what follows where it holds.
        broken: what follows where it does not.
    """
    holds = change.relative <= ROUNDING
    return Row(check, str(change), Verdict.OK if holds else Verdict.FAULT, meaning if holds else broken, change)


def property_of(check: str, change: Change, steady: str, moves: str) -> Row:
    """Return the row of something that an encoder may depend on or not.

    Args:
        check: what was done.
        change: what was seen.
        steady: what follows where the embedding stays.
        moves: what follows where it moves.
    """
    stays = change.relative <= STEADY
    return Row(check, str(change), Verdict.OK if stays else Verdict.NOTE, steady if stays else moves, change)

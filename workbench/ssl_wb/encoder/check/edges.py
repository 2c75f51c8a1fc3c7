"""Sounds at the edge: silence, an impulse, very short and very long clips."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ssl_wb.encoder.check.sounds import voices
from ssl_wb.encoder.check.subject import Check, Row, Subject, Verdict, told

__all__ = ["EDGES"]


def _row(subject: Subject, name: str, clip: Callable[[], Tensor], refused: Verdict = Verdict.FAULT) -> Row:
    """Embed one clip ``[S]``, as a whole and by frames; the embedding has to be finite and of its usual width."""
    try:
        waveform = clip()
        whole, frames = subject.embed(waveform[None]), subject.frames(waveform)
    except Exception as error:  # whatever an encoder raises is what is to be told
        return Row(name, told(error), refused, "leave such clips out before you embed")
    if not bool(whole.isfinite().all()) or not bool(frames.isfinite().all()):
        return Row(name, "not finite", Verdict.FAULT, "leave such clips out, or the table of embeddings is spoilt")
    if whole.shape != subject.base[:1].shape:
        seen = f"{list(whole.shape)}, elsewhere {list(subject.base[:1].shape)}"
        return Row(name, f"embedding of shape {seen}", Verdict.FAULT, "an embedding must have one width")
    return Row(name, f"finite, {len(frames)} frame{'' if len(frames) == 1 else 's'}", Verdict.OK, "")


def silence(subject: Subject) -> Row:
    """Digital silence."""
    return _row(subject, "silence", lambda: torch.zeros(subject.clips.shape[1]))


def impulse(subject: Subject) -> Row:
    """One sample of full scale."""

    def clip() -> Tensor:
        waveform = torch.zeros(subject.clips.shape[1])
        waveform[len(waveform) // 2] = 1.0
        return waveform

    return _row(subject, "an impulse", clip)


def full_scale(subject: Subject) -> Row:
    """A clipped recording."""
    return _row(subject, "a clipped recording", lambda: (100 * subject.clips[0]).clamp(-1, 1))


def short(subject: Subject) -> Row:
    """50 ms."""
    return _row(subject, "50 ms", lambda: subject.clips[0, : max(1, subject.rate // 20)])


def one_sample(subject: Subject) -> Row:
    """One sample: an encoder may refuse it."""
    return _row(subject, "one sample", lambda: subject.clips[0, :1], refused=Verdict.NOTE)


def long(subject: Subject) -> Row:
    """The longest clip."""
    return _row(subject, f"{subject.longest:g} s", lambda: voices(subject.longest, subject.rate, 1)[0])


EDGES: tuple[Check, ...] = (silence, impulse, full_scale, short, one_sample, long)

"""What must not move an embedding, and what may: one function per row."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import soundfile
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_wb.audio.decode import read
from ssl_wb.encoder.check.sounds import LEVEL, voice, voices
from ssl_wb.encoder.check.subject import ROUNDING, Change, Check, Row, Subject, Verdict, must_hold, property_of
from ssl_wb.errors import DataError

__all__ = ["INVARIANCE"]

#: Sample rates of files that an embedding is compared over.
FILE_RATES = (8_000, 44_100, 48_000)


def different_clips(subject: Subject) -> Row:
    """Different sounds must have different embeddings, or nothing below means anything."""
    scale = float(subject.base.norm(dim=1).mean())
    share = subject.spread / scale if scale else 0.0
    apart = share > 1e-4
    return Row(
        "different clips",
        f"lie apart by {100 * share:.2g} % of their length",
        Verdict.OK if apart else Verdict.FAULT,
        "distances below are shares of this one" if apart else "all sounds look alike to it: are its weights sound?",
        figures={"spread": subject.spread, "length": scale},
    )


def repeated(subject: Subject) -> Row:
    """The same clip twice."""
    change = subject.change(subject.one_by_one(subject.clips))
    broken = "embeddings differ from call to call: a module in training mode? call eval() on it"
    return must_hold("the same clip again", change, "deterministic", broken)


def batch_mates(subject: Subject) -> Row:
    """Every clip in one batch with the others, and with loud noise."""
    noise = 8 * LEVEL * torch.randn(subject.clips.shape, generator=torch.Generator().manual_seed(2))
    together = subject.embed(torch.cat([subject.clips, noise]))[: len(subject.clips)]
    broken = "an embedding depends on what shares its batch (normalised by the batch?): embed clips one by one"
    return must_hold("other clips in its batch", subject.change(together), "batches of any size give the same", broken)


def batch_order(subject: Subject) -> Row:
    """The batch in reverse order."""
    reversed_ = subject.embed(subject.clips.flip(0)).flip(0)
    broken = "results depend on the order of a batch, or come back in another order"
    together = subject.embed(subject.clips)
    return must_hold("order of the batch", subject.change(reversed_, together), "order does not matter", broken)


def padding(subject: Subject) -> Row:
    """Short clips in a batch with longer ones, their lengths told."""
    name, good = "padding, lengths told", "padding to the longest clip does no harm"
    clips, half = subject.clips, subject.clips.shape[1] // 2
    lengths = torch.tensor([half, *[clips.shape[1]] * (len(clips) - 1)])
    padded = clips.clone()
    padded[0, half:] = 0.0
    alone = torch.cat([subject.embed(clips[:1, :half]), subject.base[1:]])
    # An object of the user's own is asked itself: the workbench never hands it a padded batch.
    embed = getattr(subject.encoder, "padded_clips", None)
    if embed is None:
        broken = "padding leaks into embeddings: batch only clips of one length"
        return must_hold(name, subject.change(subject.embed(padded, lengths), alone), good, broken)
    broken = "it is told lengths and embeds the padding all the same; ssl-wb batches equal lengths, other code may not"
    try:
        together = embed(padded, lengths).detach().double().cpu()
    except DataError:
        return Row(name, "refuses padded batches", Verdict.NOTE, "batch clips of one length, as ssl-wb does")
    return must_hold(name, subject.change(together, alone), good, broken)


def silence_at_the_end(subject: Subject) -> Row:
    """One second of digital silence after each clip, its length not told."""
    longer = F.pad(subject.clips, (0, subject.rate))
    return property_of(
        "1 s of silence at the end",
        subject.change(subject.one_by_one(longer)),
        "trailing silence hardly matters",
        "trailing silence counts as sound: cut it off, or tell lengths",
    )


def gain(subject: Subject) -> Row:
    """20 dB quieter."""
    return property_of(
        "20 dB quieter",
        subject.change(subject.one_by_one(0.1 * subject.clips)),
        "level does not matter",
        "level is part of the embedding: bring recordings to one level if it should not be",
    )


def offset(subject: Subject) -> Row:
    """A constant of half of the clip's level."""
    return property_of(
        "constant offset (DC)",
        subject.change(subject.one_by_one(subject.clips + 0.5 * LEVEL)),
        "an offset of the recording device does not matter",
        "an offset of the recording device moves embeddings: remove it first",
    )


def file_rate(subject: Subject) -> Row:
    """The same sound from files of other sample rates, read by the workbench."""
    seconds, worst = subject.clips.shape[1] / subject.rate, Change(1.0, 0.0)
    before = subject.embed(voice(seconds, subject.rate, 0)[None])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for rate in FILE_RATES:
            path = Path(folder) / f"{rate}.wav"
            soundfile.write(path, voice(seconds, rate, 0).numpy(), rate, subtype="FLOAT")
            after = subject.embed(torch.from_numpy(read(path, subject.rate))[None])
            worst = max(worst, subject.change(after, before), key=lambda one: one.relative)
    return property_of(
        "files of 8, 44.1 and 48 kHz",
        worst,
        "resampled files of one sound below 4 kHz agree",
        "the sample rate of a file shows: resample all recordings alike first",
    )


def input_type(subject: Subject) -> Row:
    """16-bit integers and float64 in place of float32."""
    whole = (subject.clips * 32768).round().clamp(-32768, 32767)
    rounded = subject.one_by_one(whole / 32768)
    integers = subject.change(subject.one_by_one(whole.to(torch.int16)), rounded)
    doubles = subject.change(subject.one_by_one(subject.clips.double()))
    worst = max(integers, doubles, key=lambda one: one.relative)
    return must_hold(
        "int16 and float64 input", worst, "any type of samples", "scale samples to float32 of full scale 1"
    )


def half_precision(subject: Subject) -> Row:
    """bf16 by autocast."""
    name, only = "bf16 (autocast)", "use it in float32 only"
    try:
        with torch.autocast(subject.device.type, dtype=torch.bfloat16):
            after = subject.one_by_one(subject.clips)
    except Exception as error:  # a kernel that does not exist in bf16: of many types
        return Row(name, f"fails: {' '.join(str(error).split())[:100]}", Verdict.NOTE, only)
    if not bool(after.isfinite().all()):
        return Row(name, "not finite", Verdict.NOTE, only)
    steady, moves = "half precision is safe", "half precision shows: do not mix it with float32"
    return property_of(name, subject.change(after), steady, moves)


def other_device(subject: Subject) -> Row:
    """CUDA against the CPU."""
    encoder, name = subject.encoder, "CUDA against CPU"
    if not isinstance(encoder, nn.Module) or not torch.cuda.is_available():
        why = "no CUDA device here" if not torch.cuda.is_available() else "this kind of encoder chooses its device"
        return Row(name, why, Verdict.UNCHECKED, "")
    values = [
        Subject(copy.deepcopy(encoder).to(device), subject.clips, subject.longest).base for device in ("cpu", "cuda")
    ]
    return property_of(
        name, subject.change(values[1], values[0]), "both give the same", "do not mix devices in one comparison"
    )


def chunking(subject: Subject) -> Row:
    """A long clip against the mean of its two halves."""
    long = _long(subject)
    half = long.shape[1] // 2
    parts = torch.stack([subject.embed(long[:, :half]), subject.embed(long[:, half:])]).mean(dim=0)  # [1, D]
    return property_of(
        f"{subject.longest:g} s in two halves",
        subject.change(parts, subject.embed(long)),
        "long recordings may be cut before they are embedded",
        "how recordings are cut shows: cut all alike",
    )


def unread(subject: Subject) -> Row:
    """Whether the end of a long clip is read at all."""
    long = _long(subject)
    whole, other = subject.embed(long), voices(subject.longest, subject.rate, 2)[1:]

    def read_at(second: float) -> bool:
        changed = long.clone()
        start = round(second * subject.rate)
        changed[:, start:] = 3 * (other[:, start:] - other[:, start:].mean())
        # Not bit by bit: an encoder may subtract the mean of the whole recording and then cut it, as EAT does.
        return subject.change(subject.embed(changed), whole).relative > ROUNDING

    name = f"end of {subject.longest:g} s"
    low, high = 0.0, 0.97 * subject.longest
    if read_at(high):
        return Row(name, "is read", Verdict.OK, "clips of any length are read to their end")
    while high - low > 0.005 * subject.longest:
        middle = (low + high) / 2
        low, high = (middle, high) if read_at(middle) else (low, middle)
    return Row(
        name,
        f"not read after about {high:.3g} s",
        Verdict.NOTE,
        "what comes later is ignored: cut long recordings into clips",
        figures={"read_seconds": high},
    )


def _long(subject: Subject) -> Tensor:
    """Return one long clip ``[1, S]``."""
    return voices(subject.longest, subject.rate, 1)


INVARIANCE: tuple[Check, ...] = (
    different_clips, repeated, batch_mates, batch_order, padding, silence_at_the_end, gain, offset, file_rate,
    input_type, half_precision, other_device, chunking, unread,
)  # fmt: skip

"""Check an encoder: load it by its name, and measure what its embeddings depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ssl_wb.audio.decode import read
from ssl_wb.encoder.check.passport import Passport, check_encoder
from ssl_wb.encoder.external import load_external, needs_adapter
from ssl_wb.encoder.files import gather_clips
from ssl_wb.encoder.load import load_encoder
from ssl_wb.errors import AudioError, UsageError
from ssl_wb.runs.device import named_device

__all__ = ["check"]

#: Clips of the user that are taken, and the seconds that are read of each at most.
CLIPS, SECONDS = 4, 10.0
#: Shortest clip that tells anything, and shortest long clip, in seconds.
SHORTEST, SHORTEST_LONG = 1.0, 12.0


def check(
    encoder: str,
    audio: Sequence[str | Path] = (),
    *,
    embedding: str = "published",
    checkpoint: str = "last",
    device: str | None = None,
    longest: float = 60.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Passport:
    """Measure what the embeddings of an encoder depend on besides the sound.

    Args:
        encoder: a run folder, an encoder folder, a checkpoint, ``hf://OWNER/NAME`` or an external encoder.
        audio: files, folders or manifests to take test clips from; synthetic ones unless given.
        embedding: of a clip, by runs and imported encoders; see :func:`ssl_wb.load_encoder`.
        checkpoint: of a run: ``last``, ``best`` or ``step-NUMBER``.
        device: where to compute; CUDA where there is one unless given.
        longest: seconds of the longest clip that the encoder is given.
        progress: called with the number of checks done and their total.

    Raises:
        UsageError: the encoder cannot be loaded, there is no such device, or ``longest`` is too short.
        AudioError: there are fewer than two readable clips of at least a second.
    """
    if not SHORTEST_LONG <= longest <= 7200:
        raise UsageError(f"--longest {longest:g}: seconds of the longest clip", hint=f"give {SHORTEST_LONG:g} to 7200")
    where = named_device(device)
    external = needs_adapter(encoder)
    if external and embedding != "published":
        raise UsageError(
            f"--embedding {embedding}: chooses among the embeddings of a run or an imported encoder",
            hint="leave it out for external encoders",
        )
    loaded = (
        load_external(encoder, where)
        if external
        else load_encoder(encoder, checkpoint=checkpoint, embedding=embedding, device=where)
    )
    clips = _clips(audio, loaded.sample_rate) if audio else None
    return check_encoder(loaded, str(encoder), clips=clips, longest=longest, progress=progress)


def _clips(audio: Sequence[str | Path], sample_rate: int) -> Tensor:
    """Return test clips of one length ``[B, S]`` from the first readable files.

    Raises:
        AudioError: there are fewer than two of at least a second.
    """
    found: list[Tensor] = []
    for clip in gather_clips(audio):
        duration = SECONDS if clip.duration is None else min(SECONDS, clip.duration)
        try:
            waveform = torch.from_numpy(read(clip.path, sample_rate, start=clip.start, duration=duration))  # [S]
        except AudioError:
            continue
        if len(waveform) >= SHORTEST * sample_rate and bool(waveform.abs().max() > 0):
            found.append(waveform)
        if len(found) == CLIPS:
            break
    if len(found) < 2:
        raise AudioError(
            f"{len(found)} of the given clips can be read, last a second and are not silent; a check needs two",
            hint="give more files, or none: then synthetic clips are taken",
        )
    length = min(map(len, found))
    return torch.stack([waveform[:length] for waveform in found])

"""Embedding files with a run's encoder or an external one, into one file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ssl_wb.data.checks import QUICK, check_sample
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.external import is_external, load_external
from ssl_wb.encoder.external.base import ExternalEncoder
from ssl_wb.encoder.files import Embeddings, Level, check_output, embed_clips, gather_clips, write_embeddings
from ssl_wb.encoder.importing.hub import is_hub
from ssl_wb.encoder.load import load_encoder
from ssl_wb.encoder.uncertainty import UncertaintyModel, load_uncertainty
from ssl_wb.errors import UsageError
from ssl_wb.runs.device import named_device

__all__ = ["embed"]

log = logging.getLogger("ssl_wb")


# More than fifty lines, most of them the arguments and their description.
def embed(
    encoder: str,
    audio: Sequence[str | Path],
    out: Path,
    *,
    level: Level = "clip",
    uncertainty: bool = False,
    embedding: str = "published",
    checkpoint: str = "last",
    device: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Embeddings:
    """Embed files, folders or manifests and write the embeddings to one file.

    Args:
        encoder: a run folder, or an external encoder (:mod:`ssl_wb.encoder.external`).
        audio: files, folders or manifests.
        out: file to write, ``.npz`` or ``.parquet``.
        level: one row per clip, or one per frame.
        uncertainty: add each row's uncertainty, for a run with several hypotheses.
        embedding: what the embedding of a clip is; see :func:`ssl_wb.load_encoder`.
        checkpoint: of a run: ``last`` or ``best``.
        device: where to compute; CUDA where there is one unless given.
        overwrite: replace ``out`` if it exists.
        progress: called with the number of clips done and their total.

    Returns:
        What was written, and which clips could not be read.

    Raises:
        UsageError: ``out`` exists, cannot be written or has another ending, there is no such device, or the encoder is
            absent or has no uncertainty.
        AudioError: no clip could be read.
        DataError: an embedding is not finite.
    """
    # The output first: a mistake there is reported before a model is loaded.
    check_output(out)
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is already there", hint="--overwrite replaces it")
    where = named_device(device)
    measure: UncertaintyModel | None = None
    loaded: FrozenEncoder | ExternalEncoder
    if embedding != "published" and (uncertainty or (is_external(encoder) and not is_hub(encoder))):
        raise UsageError(
            f"--embedding {embedding}: chooses among the embeddings of a run or an imported encoder",
            hint="leave it out for external encoders, and with --uncertainty",
        )
    if is_external(encoder) and not is_hub(encoder):
        if uncertainty:
            raise UsageError(
                f"{encoder}: --uncertainty asks a run's objectives", hint="leave it out, or give a run folder"
            )
        loaded = load_external(encoder, where)
    elif uncertainty:
        measure = load_uncertainty(encoder, checkpoint=checkpoint, device=where)
        loaded = measure.encoder
    else:
        loaded = load_encoder(encoder, checkpoint=checkpoint, embedding=embedding, device=where)
    clips = gather_clips(audio)
    for warning in replace(check_sample(clips, seconds=QUICK), unreadable=[]).warnings():  # those are told as skipped
        log.warning(warning)
    embeddings = embed_clips(
        loaded, clips, level=level, uncertainty=measure, progress=lambda done: progress(done, len(clips))
    )
    write_embeddings(out, embeddings)
    return embeddings

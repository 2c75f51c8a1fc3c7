"""Embedding files with a run's encoder or an external one, into one file."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ssl_wb.audio.clip import Clip
from ssl_wb.data.checks import QUICK, check_sample
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.external import load_external, needs_adapter
from ssl_wb.encoder.external.base import ExternalEncoder
from ssl_wb.encoder.files import (
    EmbeddedClip,
    Embeddings,
    Level,
    check_output,
    each_clip,
    embed_clips,
    gather_clips,
    require_some,
    write_embeddings,
)
from ssl_wb.encoder.load import load_encoder
from ssl_wb.encoder.row_store import RowStore
from ssl_wb.encoder.uncertainty import UncertaintyModel, load_uncertainty
from ssl_wb.errors import UsageError, WorkbenchError
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
    layer: int | None = None,
    checkpoint: str = "last",
    device: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Embeddings:
    """Embed files, folders or manifests and write the embeddings to one file.

    Args:
        encoder: a run folder, or an external encoder (:mod:`ssl_wb.encoder.external`).
        audio: files, folders or manifests.
        out: file to write: ``.npz`` or ``.parquet``; or ``.npy``, which is written clip by clip, with its rows' paths
            and times in ``.npy.csv`` beside it.
        level: one row per clip, or one per frame.
        uncertainty: add each row's uncertainty, for a run with several hypotheses.
        embedding: what the embedding of a clip is; see :func:`ssl_wb.load_encoder`.
        layer: embed with this layer, counted from 1; the last one, or what ``embedding`` says, when None.
        checkpoint: of a run: ``last`` or ``best``.
        device: where to compute; CUDA where there is one unless given.
        overwrite: replace ``out`` if it exists.
        resume: go on with a ``.npy`` file whose writing was interrupted.
        progress: called with the number of clips done and their total.

    Returns:
        What was written, and which clips could not be read. Of a ``.npy`` file, ``values`` is a memory map.

    Raises:
        UsageError: ``out`` exists, cannot be written or has another ending, there is no such device, or the encoder is
            absent or has no uncertainty or no such layer; or what is to be resumed had other settings.
        AudioError: no clip could be read.
        DataError: an embedding is not finite.
    """
    # The output first: a mistake there is reported before a model is loaded.
    check_output(out)
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is already there", hint="--overwrite replaces it")
    if resume and out.suffix != ".npy":
        raise UsageError(
            f"--resume: {out.suffix} files are written at the end", hint="end --out in .npy to go on with it"
        )
    if layer is not None and embedding != "published":
        raise UsageError(
            f"--layer {layer}: is the mean over frames, and not --embedding {embedding}", hint="leave one of them out"
        )
    where = named_device(device)
    measure: UncertaintyModel | None = None
    loaded: FrozenEncoder | ExternalEncoder
    if embedding != "published" and (uncertainty or needs_adapter(encoder)):
        raise UsageError(
            f"--embedding {embedding}: chooses among the embeddings of a run or an imported encoder",
            hint="leave it out for external encoders, and with --uncertainty",
        )
    if needs_adapter(encoder):
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
    if layer is not None:
        _check_layer(loaded, layer, encoder)
    clips = gather_clips(audio)
    for warning in replace(check_sample(clips, seconds=QUICK), unreadable=[]).warnings():  # those are told as skipped
        log.warning(warning)
    if out.suffix == ".npy":
        settings = {
            "encoder": encoder,
            "checkpoint": checkpoint,
            "level": level,
            "layer": layer,
            "embedding": embedding,
        }
        store = RowStore(out, {**settings, "uncertainty": uncertainty, "clips": _digest(clips)}, resume=resume)
        rest = each_clip(loaded, clips[store.done :], level=level, layer=layer, uncertainty=measure)
        return _stored(store, rest, len(clips), progress)
    embeddings = embed_clips(
        loaded, clips, level=level, layer=layer, uncertainty=measure, progress=lambda done: progress(done, len(clips))
    )
    write_embeddings(out, embeddings)
    return embeddings


def _stored(
    store: RowStore,
    rest: Iterable[EmbeddedClip | WorkbenchError],
    total: int,
    progress: Callable[[int, int], None],
) -> Embeddings:
    """Write clips as they come, finish the file, and open it as a memory map."""
    first: WorkbenchError | None = None
    for found in rest:
        if isinstance(found, EmbeddedClip):
            store.add(found)
        else:
            first = first or found
            store.skip(found.message)
        progress(store.done, total)
    require_some(store.rows, store.skipped, first)
    store.finish()
    values = np.load(store.out, mmap_mode="r")
    with store.table.open(newline="", encoding="utf-8") as file:
        rows = [(row["path"], float(row["time"]), row.get("uncertainty")) for row in csv.DictReader(file)]
    measured = np.array([float(one) for *_, one in rows if one is not None], dtype=np.float32)
    return Embeddings(
        [path for path, *_ in rows],
        np.array([time for _, time, _ in rows]),
        values,
        clips=store.done - len(store.skipped),
        skipped=store.skipped,
        uncertainty=measured if len(measured) else None,
    )


def _check_layer(encoder: FrozenEncoder | ExternalEncoder, layer: int, source: str) -> None:
    """Check that an encoder has a layer, on one second of silence.

    Raises:
        UsageError: it has not.
    """
    layers = getattr(encoder, "layers", None)
    if layers is None:
        raise UsageError(f"{source}: has no layers to choose from", hint="leave out --layer")
    count = layers(torch.zeros(1, encoder.sample_rate)).shape[1]
    if not 1 <= layer <= count:
        raise UsageError(f"--layer {layer}: {source} has layers 1 to {count}", hint=f"the last one is {count}")


def _digest(clips: Sequence[Clip]) -> str:
    """Digest which stretches of which files are embedded."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(os.fsencode(f"{clip.path}\0{clip.start}\0{clip.duration}\n"))
    return digest.hexdigest()

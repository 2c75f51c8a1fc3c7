"""Sentence embeddings of the clips' captions, computed once before training and read by row.

A text encoder inside the data loader would cost more than the audio. So every distinct caption is embedded once, into
one table on disk that all workers of all processes map into memory.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.data.order import random_below
from ssl_wb.errors import DataError, itemise
from ssl_wb.files import cache_files, may_write, written_aside
from ssl_wb.recipe.schema import CaptionsSection

__all__ = ["HASHING", "CaptionCounts", "CaptionTable", "check_captions", "embed_captions"]

log = logging.getLogger("ssl_wb")

#: Value of ``data.captions.encoder`` that stands for hashed words.
HASHING = "hashing"
#: Changes whenever the same captions and settings no longer give the same table.
VERSION = 1
#: Captions encoded at a time.
CHUNK = 1024
#: Clips or files shown before the rest is only counted.
SHOWN = 5

_WITHOUT = {
    "caption": ("no caption", "Fill the manifest's column 'caption', or set data.captions.source = 'label'."),
    "label": ("no label to make a caption of", "Fill the manifest's column 'label'."),
    "embedding": ("no caption embedding", "Fill the manifest's column 'caption_embedding' with .npy files."),
}


@dataclass(frozen=True)
class CaptionCounts:
    """Captions of all clips together, and how many different ones they are (files of embeddings count as different)."""

    total: int
    distinct: int


@dataclass(frozen=True)
class _Layout:
    """Which rows the table has, and which of them belong to which clip.

    Attributes:
        names: distinct captions, or files of embeddings, in the order of the rows.
        sizes: int64 ``[names]``, rows of each: 1 for a caption, k for a file of k embeddings.
        rows: int64 ``[R]``, row numbers of all clips, clip after clip.
        first: int64 ``[clips + 1]``, where each clip's rows begin.
    """

    names: list[str]
    sizes: NDArray[np.int64]
    rows: NDArray[np.int64]
    first: NDArray[np.int64]


class CaptionTable:
    """Caption embeddings by clip.

    Args:
        embeddings: float32 ``[n, C]``, in memory or mapped from a file.
        rows: int64 ``[R]``, row numbers of all clips, clip after clip.
        first: int64 ``[clips + 1]``, where each clip's rows begin.
    """

    def __init__(self, embeddings: NDArray[np.float32], rows: NDArray[np.int64], first: NDArray[np.int64]) -> None:
        self.embeddings = embeddings
        self.rows = rows
        self.first = first

    @classmethod
    def build(cls, clips: ClipSet, section: CaptionsSection) -> CaptionTable:
        """Embed every distinct caption, or read the table of an earlier run.

        The table is a .npy file in the user's cache folder; one beside the manifest, where versions before 0.2 kept it,
        is read, too. Its name holds a digest of the captions (or of the embedding files' paths, sizes and times) and of
        how they are embedded: a change of either makes another table.

        Args:
            clips: the data to train on.
            section: the recipe's captions.

        Raises:
            DataError: clips without a caption, embeddings of another width, a missing package or model.
        """
        layout = _lay_out(clips, section)
        key = _key(layout, section)
        shape = (int(layout.sizes.sum()), section.dim)
        place, beside = cache_files(clips.source, f"captions-{key}", "npy")
        for known in (place, beside):
            kept = None if known is None else _map_table(known, shape)
            if kept is not None:
                return cls(kept, layout.rows, layout.first)
        return cls(_make_table(layout, section, shape, place), layout.rows, layout.first)

    def row(self, index: int, generator: np.random.Generator) -> NDArray[np.float32]:
        """Return the embedding of one of a clip's captions.

        Args:
            index: index of the clip in its set.
            generator: draws the caption.

        Returns:
            float32 ``[C]``.
        """
        first, last = self.first[index], self.first[index + 1]
        row = self.rows[first + random_below(generator, int(last - first))]
        return np.array(self.embeddings[row], dtype=np.float32)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if isinstance(self.embeddings, np.memmap):  # pickle would copy the whole table into every worker
            state["embeddings"] = str(self.embeddings.filename)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["embeddings"], str):
            state["embeddings"] = np.load(state["embeddings"], mmap_mode="r")
        self.__dict__.update(state)


def check_captions(clips: ClipSet | None, section: CaptionsSection) -> CaptionCounts | None:
    """Check that a table can be built, without building it.

    Args:
        clips: the data to train on; None if it is not there yet.
        section: the recipe's captions.

    Returns:
        The number of captions; None without clips.

    Raises:
        DataError: clips without a caption, embedding files of another width, or a missing package.
    """
    layout = None if clips is None else _lay_out(clips, section)
    if section.source != "embedding" and section.encoder != HASHING:
        package = "sentence_transformers"
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            raise _missing_package(section)
    return None if layout is None else CaptionCounts(len(layout.rows), int(layout.sizes.sum()))


def _names(clip: Clip, section: CaptionsSection) -> tuple[str, ...]:
    """Return a clip's captions, or its file of embeddings."""
    if section.source == "caption":
        return clip.captions
    if section.source == "label":
        return tuple(section.template.replace("{}", label) for label in clip.labels)
    return (str(clip.caption_embedding),) if clip.caption_embedding else ()


def _lay_out(clips: ClipSet, section: CaptionsSection) -> _Layout:
    """Number the distinct captions of all clips; DataError if some clips have none."""
    number_of: dict[str, int] = {}
    of_clips: list[list[int]] = []  # numbers of each clip's captions
    without: list[str] = []
    for clip in clips:
        of_clips.append([number_of.setdefault(name, len(number_of)) for name in _names(clip, section)])
        if not of_clips[-1]:
            without.append(str(clip.path))
    if without:
        fault, hint = _WITHOUT[section.source]
        head = f"{clips.source}: {len(without)} of {len(clips)} clips have {fault}"
        raise DataError(itemise(head, without, SHOWN), hint=hint)
    names = list(number_of)
    sizes = np.ones(len(names), np.int64)
    if section.source == "embedding":
        sizes = _file_sizes(clips.source, names, section.dim)
    start = np.cumsum(sizes) - sizes  # [names], first row of each
    rows = [row for numbers in of_clips for n in numbers for row in range(start[n], start[n] + sizes[n])]
    counts = [sizes[numbers].sum() for numbers in of_clips]
    return _Layout(names, sizes, np.array(rows, np.int64), np.cumsum([0, *counts], dtype=np.int64))


def _file_sizes(source: Path, files: list[str], dim: int) -> NDArray[np.int64]:
    """Return the number of embeddings in each file; DataError where one is no float ``[C]`` or ``[k, C]``."""
    sizes: list[int] = []
    mistakes: list[str] = []
    for file in files:
        try:
            shape, kind = _header(file)
        except (OSError, ValueError, EOFError) as error:
            mistakes.append(f"{file}: cannot be read as .npy ({error})")
            continue
        if kind != "f" or len(shape) not in (1, 2) or 0 in shape:
            mistakes.append(f"{file}: holds {list(shape)} of kind {kind!r}, not floats [C] or [k, C]")
        elif shape[-1] != dim:
            mistakes.append(f"{file}: embeddings of {shape[-1]} numbers, and data.captions.dim is {dim}")
        sizes.append(shape[0] if len(shape) == 2 else 1)
    if mistakes:
        head = f"{source}: {len(mistakes)} of {len(files)} caption embeddings cannot be used"
        raise DataError(
            itemise(head, mistakes, SHOWN),
            hint="Set data.captions.dim to their width, or repair the files.",
        )
    return np.array(sizes, np.int64)


def _header(file: str) -> tuple[tuple[int, ...], str]:
    """Return shape and kind of the numbers of a .npy file."""
    array = np.load(file, mmap_mode="r")
    if not isinstance(array, np.ndarray):
        raise ValueError("it is an archive of several arrays")
    return array.shape, array.dtype.kind


def _key(layout: _Layout, section: CaptionsSection) -> str:
    """Digest of what the table holds."""
    digest = hashlib.sha256(json.dumps([VERSION, section.dim]).encode())
    if section.source == "embedding":
        for name in layout.names:
            status = Path(name).stat()
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    else:
        digest.update(json.dumps([section.encoder, layout.names]).encode())
    return digest.hexdigest()[:16]


def _map_table(place: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """Map a table of an earlier run into memory; None if there is none, or it is not as it should be."""
    try:
        table = np.load(place, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return table if isinstance(table, np.ndarray) and table.shape == shape and table.dtype == np.float32 else None


def _make_table(
    layout: _Layout, section: CaptionsSection, shape: tuple[int, int], place: Path | None
) -> NDArray[np.float32]:
    """Write the table ``[n, C]`` to the user's cache; keep it in memory if that cannot be."""
    try:
        if (
            place is not None
            and may_write(place.parent)
            and shutil.disk_usage(place.parent).free > 4 * shape[0] * shape[1]
        ):
            with written_aside(place) as aside, aside.open("wb") as file:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for chunk in _chunks(layout, section):
                    file.write(chunk.astype("<f4").tobytes())
            kept = _map_table(place, shape)
            if kept is not None:
                return kept
    except OSError as error:
        log.debug("captions not kept in %s: %s", place, error)
    return np.concatenate(list(_chunks(layout, section)))


def _chunks(layout: _Layout, section: CaptionsSection) -> Iterator[NDArray[np.float32]]:
    """Yield the table in parts, float32 ``[k, C]``; DataError if one has another width or is not finite."""
    if section.source == "embedding":
        for name in layout.names:
            yield _finite(np.atleast_2d(np.load(name)).astype(np.float32), name)
        return
    log.info("embedding %d captions by %s", len(layout.names), section.encoder)
    yield from _encoded(layout.names, section)


def embed_captions(texts: list[str], section: CaptionsSection) -> NDArray[np.float32]:
    """Embed sentences as the captions of a recipe are: float32 ``[texts, C]``.

    Raises:
        DataError: a missing package or model, or embeddings of another width than ``dim``.
    """
    return np.concatenate(list(_encoded(texts, section)))


def _encoded(names: list[str], section: CaptionsSection) -> Iterator[NDArray[np.float32]]:
    """Yield embeddings of sentences in parts, float32 ``[k, C]``; DataError as in :func:`_chunks`."""
    encode = _encoder(section)
    for first in range(0, len(names), CHUNK):
        texts = names[first : first + CHUNK]
        chunk = np.asarray(encode(texts), dtype=np.float32)
        if chunk.shape != (len(texts), section.dim):
            raise DataError(
                f"data.captions: {section.encoder!r} makes embeddings of {chunk.shape[-1]} numbers, "
                f"and data.captions.dim is {section.dim}",
                hint=f"Set data.captions.dim = {chunk.shape[-1]}.",
            )
        yield _finite(chunk, section.encoder)


def _finite(embeddings: NDArray[np.float32], origin: str) -> NDArray[np.float32]:
    if not np.isfinite(embeddings).all():
        raise DataError(f"{origin}: a caption embedding has numbers that are not finite", hint="Make it anew.")
    return embeddings


def _encoder(section: CaptionsSection) -> Callable[[list[str]], Any]:
    """Return what maps captions to embeddings ``[k, C]``."""
    if section.encoder == HASHING:
        from sklearn.feature_extraction.text import HashingVectorizer

        # One-letter words count too; the default pattern leaves them out.
        words = HashingVectorizer(
            n_features=section.dim, ngram_range=(1, 2), norm="l2", token_pattern=r"(?u)\b\w+\b", dtype=np.float32
        )
        return lambda texts: words.transform(texts).toarray()
    try:
        package = importlib.import_module("sentence_transformers")
    except ImportError as error:
        raise _missing_package(section) from error
    try:
        model = package.SentenceTransformer(section.encoder)
    except Exception as error:  # of a library: no such model, no network, a broken download
        raise DataError(
            f"data.captions.encoder: {section.encoder!r} cannot be loaded: {error}",
            hint="Name a sentence-transformers model, or a folder that holds one; 'hashing' needs no download.",
        ) from error
    return lambda texts: model.encode(texts, batch_size=64, convert_to_numpy=True, show_progress_bar=False)


def _missing_package(section: CaptionsSection) -> DataError:
    return DataError(
        f"data.captions.encoder: {section.encoder!r} needs sentence-transformers, which is not installed",
        hint="pip install 'ssl-wb[captions]', or set data.captions.encoder = 'hashing'.",
    )

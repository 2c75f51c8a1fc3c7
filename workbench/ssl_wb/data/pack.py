"""Packing: the clips of a place written as one saved data set, each encoded anew as 16-bit mono.

Millions of small files are slow to list, to copy and to open; the same clips in a few large Arrow files, mapped into
memory, are not. The files are what ``datasets.Dataset.save_to_disk`` writes. They are written here stream by stream,
because the library would first copy all clips into its own cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from ssl_wb.audio.ahead import started_ahead
from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.audio.decode import info, read
from ssl_wb.data.clips import load_clips
from ssl_wb.errors import AudioError, DataError, UsageError, itemise
from ssl_wb.files import written_aside

__all__ = ["FORMATS", "Packed", "pack_clips"]

#: Encodings, as libsndfile calls them; both are lossless beyond the rounding to 16 bits.
FORMATS = {"flac": "FLAC", "wav": "WAV"}
#: Encoded bytes of one file, about: large enough that there are few, small enough to copy again when one is damaged.
SHARD_BYTES = 500_000_000
#: Encoded bytes of one record batch, about: what is held in memory. Arrow's 32-bit offsets limit it to 2^31.
BATCH_BYTES = 32_000_000
#: The file by which ``datasets.load_from_disk`` knows a data set.
STATE = "state.json"
#: Clips that wait for each thread, at most.
AHEAD = 4


@dataclass
class Packed:
    """What was written.

    Attributes:
        clips: rows written.
        seconds: their total length.
        bytes: their total encoded size.
        clipped: clips with samples beyond full scale, which 16 bits cannot hold.
        skipped: one message for each clip that could not be read.
    """

    clips: int = 0
    seconds: float = 0.0
    bytes: int = 0
    clipped: int = 0
    skipped: list[str] = field(default_factory=list)


class _Encoded(NamedTuple):
    """One clip: encoded bytes, length in seconds, whether samples had to be clipped."""

    content: bytes
    seconds: float
    clipped: bool


def pack_clips(
    clips: ClipSet,
    out: Path,
    *,
    sample_rate: int | None = None,
    encoding: str = "flac",
    threads: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> Packed:
    """Write clips as a data set that :func:`ssl_wb.data.clips.load_clips` and ``datasets.load_from_disk`` read.

    Each row has ``audio`` (``{"bytes", "path"}``: the clip, mean of its channels, 16 bit) and, where any clip has them,
    ``label`` (text, or a list where any clip has several), ``split``, ``fold``, ``group`` (of labelled stretches
    without one, their file), ``caption`` (a list) and ``caption_embedding`` (absolute path). A clip that cannot be read
    is left out and reported. The folder appears when it is complete.

    Args:
        clips: what to pack; of a stretch of a file, only the stretch.
        out: folder to write, which must not exist.
        sample_rate: samples per second of all rows, resampled as for training; None keeps each file's own rate.
        encoding: one of ``FORMATS``.
        threads: number of threads that decode and encode; soundfile's calls release the interpreter's lock.
        progress: called with the number of clips done.

    Raises:
        UsageError: ``out`` exists already, or the encoding is unknown.
        AudioError: no clip could be read.
        DataError: the folder cannot be written, or a package is missing.
    """
    if os.path.lexists(out):
        raise UsageError(f"{out}: is already there", hint="Give a folder that is not there yet, or remove it first.")
    if encoding not in FORMATS:
        raise UsageError(f"format {encoding!r}: is not known", hint=f"One of {', '.join(FORMATS)}.")
    try:
        import datasets  # noqa: F401 - before the work and not after it
    except ImportError as error:
        raise DataError(
            f"packing: needs {error.name or 'datasets'}, which is not installed", hint="pip install 'ssl-wb[datasets]'"
        ) from error
    try:
        with written_aside(out) as aside:
            aside.mkdir()
            packed = _write(clips, aside, _encoded(clips, sample_rate, encoding, threads), encoding, progress)
            rows = len(load_clips(aside))
            if rows != packed.clips:
                raise DataError(f"{out}: {rows} rows came out of {packed.clips} clips", hint="Is the disk sound?")
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error})", hint="Is the disk full, or the folder not yours to write in?"
        ) from error
    return packed


def _write(
    clips: ClipSet,
    folder: Path,
    encoded: Iterator[tuple[Clip, _Encoded | AudioError]],
    encoding: str,
    progress: Callable[[int], None],
) -> Packed:
    """Write the encoded clips as one data set; AudioError if none could be read."""
    packed = Packed()
    with _Writer(folder, clips, encoding) as writer:
        for clip, one in encoded:
            if isinstance(one, AudioError):
                packed.skipped.append(one.message)
            else:
                writer.add(clip, one.content)
                packed.clips += 1
                packed.seconds += one.seconds
                packed.bytes += len(one.content)
                packed.clipped += one.clipped
            progress(packed.clips + len(packed.skipped))
    if not packed.clips:
        raise AudioError(
            itemise(f"{clips.source}: none of the {len(clips)} clips could be read:", packed.skipped),
            hint="Is this the right folder or manifest? Nothing was written.",
        )
    writer.finish()
    return packed


def _encoded(
    clips: Sequence[Clip] | ClipSet, sample_rate: int | None, encoding: str, threads: int
) -> Iterator[tuple[Clip, _Encoded | AudioError]]:
    """Decode and encode in threads; results come in the order of the clips, a bounded number ahead of the writer."""

    def encode(clip: Clip) -> _Encoded | AudioError:
        try:
            return _encode(clip, sample_rate, encoding)
        except AudioError as error:
            return error

    pool = ThreadPoolExecutor(threads)
    try:
        started = started_ahead(clips, lambda clip: (clip, pool.submit(encode, clip)), AHEAD * threads)
        yield from ((clip, future.result()) for clip, future in started)
    finally:
        pool.shutdown(cancel_futures=True)  # also when the writer failed: nobody wants the rest


def _encode(clip: Clip, sample_rate: int | None, encoding: str) -> _Encoded:
    """Encode one clip as 16-bit mono; AudioError if it cannot be read."""
    rate = sample_rate or info(clip.path).sample_rate
    waveform = read(clip.path, rate, start=clip.start, duration=clip.duration)  # [S]
    samples, clipped = _as_int16(waveform)  # [S]
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, samples, rate, format=FORMATS[encoding], subtype="PCM_16")
    except (soundfile.LibsndfileError, ValueError) as error:
        raise AudioError(f"{clip.path}: cannot be written as {encoding} at {rate} Hz ({error})") from error
    return _Encoded(buffer.getvalue(), len(waveform) / rate, clipped)


def _as_int16(waveform: NDArray[np.float32]) -> tuple[NDArray[np.int16], bool]:
    """Round ``[S]`` to 16 bits, and return whether samples had to be clipped.

    libsndfile reads ``i`` as ``i / 32768`` but writes ``x`` as ``32767 x``, which would change 16-bit audio. Scaled
    here, 16-bit audio comes back bit for bit.
    """
    scaled = np.rint(waveform * np.float32(32768))  # [S]
    # Full scale itself, +1, is one step beyond 16 bits; nobody hears that.
    clipped = bool((scaled > 32768).any() or (scaled < -32768).any())
    return np.clip(scaled, -32768, 32767).astype(np.int16), clipped


class _Writer:
    """Writes rows as Arrow streams of bounded size, and the JSON files that ``datasets.load_from_disk`` needs.

    Rows are collected into record batches of ``BATCH_BYTES``, these into files of ``SHARD_BYTES``.
    """

    def __init__(self, folder: Path, clips: ClipSet, encoding: str) -> None:
        from datasets import Audio, Features, List, Value

        self.folder = folder
        self.encoding = encoding
        columns: dict[str, Any] = {"audio": Audio(decode=False)}  # decode=True would need torchcodec to read
        text = Value("string")
        # A label with ";" (from a data set's list) must stay in a list: as text it would be read as two labels.
        self.one_label = all(len(clip.labels) <= 1 and ";" not in "".join(clip.labels) for clip in clips)
        # Each column, by what a clip has of it and its type; those that no clip has are left out.
        optional = {
            "label": ("labels", text if self.one_label else List(text)),
            "split": ("split", text),
            "fold": ("fold", text),
            "caption": ("captions", List(text)),
            "caption_embedding": ("caption_embedding", text),
        }
        for name, (attribute, kind) in optional.items():
            if any(getattr(clip, attribute) for clip in clips):
                columns[name] = kind
        if any(_group(clip) for clip in clips):
            columns["group"] = text
        self.features = Features(columns)
        self.shards = 0
        self._rows: list[dict[str, Any]] = []
        self._waiting = self._in_shard = 0  # bytes
        self._stream: Any = None
        self._fingerprint = hashlib.sha256()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            self._close()

    def add(self, clip: Clip, content: bytes) -> None:
        """Append a clip with its encoded bytes."""
        name = getattr(clip.path, "file", None) or clip.path.name  # of a row of a data set, the name stored with it
        values: dict[str, Any] = {
            "audio": {"bytes": content, "path": _utf8(f"{Path(name).stem}.{self.encoding}")},
            "label": next(iter(clip.labels), None) if self.one_label else list(clip.labels),
            "split": clip.split,
            "fold": clip.fold,
            "group": _group(clip),
            "caption": list(clip.captions),
            "caption_embedding": _utf8(str(clip.caption_embedding.absolute())) if clip.caption_embedding else None,
        }
        row = {column: values[column] for column in self.features}
        self._rows.append(row)
        self._fingerprint.update(content)
        self._fingerprint.update(json.dumps([row[column] for column in row if column != "audio"]).encode())
        self._waiting += len(content)
        if self._waiting >= BATCH_BYTES:
            self._flush()

    def finish(self) -> None:
        """Give the files their final names and write the two JSON files that make them one data set."""
        from datasets import DatasetInfo

        DatasetInfo(features=self.features).write_to_directory(str(self.folder))
        names = [f"data-{index:05d}-of-{self.shards:05d}.arrow" for index in range(self.shards)]
        for index, name in enumerate(names):
            (self.folder / _shard(index)).rename(self.folder / name)
        state: dict[str, Any] = {
            "_data_files": [{"filename": name} for name in names],
            "_fingerprint": self._fingerprint.hexdigest()[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        (self.folder / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")

    def _flush(self) -> None:
        """Write the waiting rows as a record batch, into a new file where the last is full."""
        import pyarrow

        if not self._rows:
            return
        schema = self.features.arrow_schema
        if self._stream is None:
            self._stream = pyarrow.ipc.new_stream(str(self.folder / _shard(self.shards)), schema)
            self.shards += 1
        self._stream.write_batch(pyarrow.RecordBatch.from_pylist(self._rows, schema))
        self._in_shard += self._waiting
        self._rows, self._waiting = [], 0
        if self._in_shard >= SHARD_BYTES:
            self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream, self._in_shard = None, 0


def _shard(index: int) -> str:
    """Name of a file while the number of files is unknown: the final names contain it."""
    return f"{index:05d}.part"


def _utf8(name: str) -> str:
    """Return a file's name as Arrow can hold it: bytes that are not UTF-8 are replaced."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _group(clip: Clip) -> str | None:
    """Return what keeps the clips of a recording together in splits: the row no longer tells a stretch's file."""
    if clip.group or not clip.labels or (not clip.start and clip.duration is None):
        return clip.group
    return _utf8(clip.path.as_posix() if isinstance(clip.path, Path) else clip.path.name)

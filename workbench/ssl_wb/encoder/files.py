"""Embedding clips one by one, and writing the embeddings to one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssl_wb.audio.clip import Clip
from ssl_wb.audio.decode import read
from ssl_wb.data.clips import load_clips
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.external.base import ExternalEncoder
from ssl_wb.encoder.uncertainty import UncertaintyModel
from ssl_wb.errors import AudioError, DataError, UsageError, WorkbenchError, itemise, machine_fault
from ssl_wb.files import why_not_writable, written_aside

__all__ = [
    "EmbeddedClip",
    "Embeddings",
    "Level",
    "check_ending",
    "check_output",
    "each_clip",
    "embed_clips",
    "gather_clips",
    "require_some",
    "utf8",
    "write_embeddings",
]

Level = Literal["clip", "frames"]


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of several clips.

    Attributes:
        paths: file of each row.
        times: float64 ``[rows]``, seconds from the file's start to the row's start.
        values: float32 ``[rows, D]``.
        clips: number of clips embedded.
        skipped: one message for each clip that could not be read.
        uncertainty: float32 ``[rows]`` of :class:`ssl_wb.encoder.uncertainty.UncertaintyModel`, where requested.
    """

    paths: list[str]
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    clips: int
    skipped: list[str]
    uncertainty: NDArray[np.float32] | None = None

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return the columns of the file by name, each with one entry per row."""
        columns: dict[str, NDArray[np.generic]] = {
            "path": np.array([utf8(path) for path in self.paths]),
            "time": self.times,
            "embedding": self.values,
        }
        if self.uncertainty is not None:
            columns["uncertainty"] = self.uncertainty
        return columns


def utf8(name: str) -> str:
    """Return a file's name as numpy and Arrow can hold it: bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def gather_clips(sources: Iterable[str | Path]) -> list[Clip]:
    """Return the clips of files, folders and manifests, in the order given."""
    return [clip for source in sources for clip in load_clips(source)]


@dataclass(frozen=True)
class EmbeddedClip:
    """The rows of one clip.

    Attributes:
        clip: the clip.
        times: float64 ``[rows]``, seconds from the file's start to the row's start.
        values: float32 ``[rows, D]``.
        uncertainty: float32 ``[rows]``, where requested.
    """

    clip: Clip
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    uncertainty: NDArray[np.float32] | None = None


def each_clip(
    encoder: FrozenEncoder | ExternalEncoder,
    clips: Sequence[Clip],
    *,
    level: Level = "clip",
    layer: int | None = None,
    uncertainty: UncertaintyModel | None = None,
) -> Iterator[EmbeddedClip | WorkbenchError]:
    """Embed clips one by one.

    Args:
        encoder: of a run, or external.
        clips: what to embed.
        level: one row per clip, or one per frame.
        layer: frames, or their mean, of this layer, counted from 1; the encoder's embedding when None.
        uncertainty: measures each row's uncertainty too; a clip's is the mean over its frames.

    Yields:
        The rows of each clip, or why it cannot be embedded.

    Raises:
        DataError: an embedding is not finite.
    """
    for clip in clips:
        try:
            waveform = read(clip.path, encoder.sample_rate, start=clip.start, duration=clip.duration)
            batch = torch.from_numpy(waveform)[None]  # [1, S]
            rows = _rows(encoder, batch, level, layer)  # [1, D] or [T, D]
        except (AudioError, DataError, MemoryError, RuntimeError) as error:
            yield _refused(clip, error)
            continue
        if not bool(rows.isfinite().all()):
            raise DataError(f"{clip.path}: its embedding is not finite", hint="are the encoder's weights sound?")
        # A single row starts where the clip does; the hop may be NaN for an encoder without frames.
        hop = encoder.hop_seconds if len(rows) > 1 else 0.0
        times = clip.start + np.arange(len(rows), dtype=np.float64) * hop
        own = None
        if uncertainty is not None:
            frames = uncertainty.frames(batch)[0]  # [T]
            own = (frames.mean()[None] if level == "clip" else frames).cpu().numpy()
        yield EmbeddedClip(clip, times, rows.cpu().numpy(), own)


def _rows(encoder: FrozenEncoder | ExternalEncoder, batch: Tensor, level: Level, layer: int | None) -> Tensor:
    """Embed a clip ``[1, S]`` as ``[1, D]`` or ``[T, D]``."""
    if layer is None:
        return encoder.embed_clip(batch) if level == "clip" else encoder.embed_frames(batch)[0]
    frames: Tensor = encoder.layers(batch)[0, layer - 1]  # type: ignore[union-attr]  # [T, D]
    return frames.mean(dim=0, keepdim=True) if level == "clip" else frames


def embed_clips(
    encoder: FrozenEncoder | ExternalEncoder,
    clips: Sequence[Clip],
    *,
    level: Level = "clip",
    layer: int | None = None,
    uncertainty: UncertaintyModel | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Embeddings:
    """Embed clips one by one; a clip that cannot be read is skipped and reported.

    Args:
        encoder: of a run, or external.
        clips: what to embed.
        level: one row per clip, or one per frame.
        layer: as for :func:`each_clip`.
        uncertainty: measures each row's uncertainty too; a clip's is the mean over its frames.
        progress: called with the number of clips done, including those skipped.

    Raises:
        AudioError: no clip could be read.
        DataError: an embedding is not finite.
    """
    embedded: list[EmbeddedClip] = []
    refused: list[WorkbenchError] = []
    for number, found in enumerate(each_clip(encoder, clips, level=level, layer=layer, uncertainty=uncertainty), 1):
        if isinstance(found, EmbeddedClip):
            embedded.append(found)
        else:
            refused.append(found)
        progress(number)
    skipped = [error.message for error in refused]
    require_some(len(embedded), skipped, refused[0] if refused else None)
    measured = [one.uncertainty for one in embedded if one.uncertainty is not None]
    return Embeddings(
        [str(one.clip.path) for one in embedded for _ in one.times],
        np.concatenate([one.times for one in embedded]),
        np.concatenate([one.values for one in embedded]),
        clips=len(embedded),
        skipped=skipped,
        uncertainty=np.concatenate(measured) if measured else None,
    )


def require_some(embedded: int, skipped: Sequence[str], first: WorkbenchError | None) -> None:
    """Check that a clip was embedded.

    Args:
        embedded: number of clips embedded.
        skipped: why the others were not.
        first: the first of these errors, where it is known.

    Raises:
        AudioError: no clip could be read.
        WorkbenchError: ``first``, where the encoder takes none of them.
    """
    if embedded:
        return
    if first is not None and not isinstance(first, AudioError):
        raise first
    raise AudioError(itemise("none of the files could be read:", skipped), hint="give wav, flac, ogg or mp3 files")


def _refused(clip: Clip, error: Exception) -> WorkbenchError:
    """Return why a clip alone cannot be embedded, with its name; raise what is no fault of the clip."""
    if isinstance(error, AudioError):
        return error
    if isinstance(error, DataError):  # of an external encoder, as for a clip that is too short for it
        return DataError(f"{clip.path}: {error.message}", hint=error.hint)
    fault = machine_fault(error)
    if fault is None or "memory" not in fault.message:
        raise error
    return DataError(
        f"{clip.path}: is too long for the memory that is free",
        hint="give stretches of it: start and duration of a manifest",
    )


def write_embeddings(out: Path, embeddings: Embeddings) -> None:
    """Write ``.npz`` or ``.parquet`` with the columns path, time, embedding and, where present, uncertainty.

    The file is written whole or not at all.

    Raises:
        UsageError: another ending, parquet without pyarrow, or it cannot be written.
    """
    check_ending(out)
    try:
        _write(out, embeddings)
    except OSError as error:
        raise UsageError(
            f"{out}: cannot be written ({error})", hint="is the disk full? nothing was left there; name another --out"
        ) from error


def _write(out: Path, embeddings: Embeddings) -> None:
    if out.suffix == ".npz":
        with written_aside(out) as aside, aside.open("wb") as file:  # given a name, numpy would add .npz to it
            np.savez(file, **embeddings.columns())  # type: ignore[arg-type]
    else:
        import pyarrow
        from pyarrow import parquet

        columns = {
            name: pyarrow.array(values)
            if values.ndim == 1
            else pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.reshape(-1)), values.shape[1])
            for name, values in embeddings.columns().items()
        }
        with written_aside(out) as aside:
            parquet.write_table(pyarrow.table(columns), aside)


def check_output(out: Path) -> None:
    """Check that a file can be written, before the work starts.

    Raises:
        UsageError: as :func:`check_ending`; or it is a folder, or its folder cannot be written.
    """
    check_ending(out)
    fault = f"{out} is a folder" if out.is_dir() else why_not_writable(out.parent)
    if fault:
        raise UsageError(f"{out}: cannot be written ({fault})", hint="name a file in a folder of yours with --out")


def check_ending(out: Path) -> None:
    """Check that the output can be written, before the work starts.

    Raises:
        UsageError: neither ``.npz``, ``.npy`` nor ``.parquet``, or parquet without pyarrow.
    """
    if out.suffix not in (".npz", ".npy", ".parquet"):
        raise UsageError(
            f"{out}: cannot write {out.suffix or 'a file without ending'}", hint="end it in .npz, .parquet or .npy"
        )
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"{out}: parquet needs pyarrow", hint="pip install 'ssl-wb[datasets]', or write .npz"
            ) from error

"""Embedding clips one by one, and writing the embeddings to one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.audio.clip import Clip
from ssl_wb.audio.decode import read
from ssl_wb.data.clips import load_clips
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.external.base import ExternalEncoder
from ssl_wb.encoder.uncertainty import UncertaintyModel
from ssl_wb.errors import AudioError, DataError, UsageError, WorkbenchError, itemise, machine_fault
from ssl_wb.files import why_not_writable, written_aside

__all__ = ["Embeddings", "Level", "check_ending", "check_output", "embed_clips", "gather_clips", "write_embeddings"]

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
            "path": np.array([_utf8(path) for path in self.paths]),
            "time": self.times,
            "embedding": self.values,
        }
        if self.uncertainty is not None:
            columns["uncertainty"] = self.uncertainty
        return columns


def _utf8(name: str) -> str:
    """Return a file's name as numpy and Arrow can hold it: bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def gather_clips(sources: Iterable[str | Path]) -> list[Clip]:
    """Return the clips of files, folders and manifests, in the order given."""
    return [clip for source in sources for clip in load_clips(source)]


# More than fifty lines, a third of them documentation; one loop keeps the columns of a row together.
def embed_clips(
    encoder: FrozenEncoder | ExternalEncoder,
    clips: Sequence[Clip],
    *,
    level: Level = "clip",
    uncertainty: UncertaintyModel | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Embeddings:
    """Embed clips one by one; a clip that cannot be read is skipped and reported.

    Args:
        encoder: of a run, or external.
        clips: what to embed.
        level: one row per clip, or one per frame.
        uncertainty: measures each row's uncertainty too; a clip's is the mean over its frames.
        progress: called with the number of clips done, including those skipped.

    Raises:
        AudioError: no clip could be read.
        DataError: an embedding is not finite.
    """
    paths: list[str] = []
    times: list[NDArray[np.float64]] = []
    values: list[NDArray[np.float32]] = []
    uncertainties: list[NDArray[np.float32]] = []
    skipped: list[str] = []
    first: WorkbenchError | None = None
    for number, clip in enumerate(clips, start=1):
        try:
            waveform = read(clip.path, encoder.sample_rate, start=clip.start, duration=clip.duration)
            batch = torch.from_numpy(waveform)[None]  # [1, S]
            rows = encoder.embed_clip(batch) if level == "clip" else encoder.embed_frames(batch)[0]  # [1, D] or [T, D]
        except (AudioError, DataError, MemoryError, RuntimeError) as error:
            refused = _refused(clip, error)
            first = first or refused
            skipped.append(refused.message)
            progress(number)
            continue
        if not bool(rows.isfinite().all()):
            raise DataError(f"{clip.path}: its embedding is not finite", hint="are the encoder's weights sound?")
        # A single row starts where the clip does; the hop may be NaN for an encoder without frames.
        hop = encoder.hop_seconds if len(rows) > 1 else 0.0
        paths += [str(clip.path)] * len(rows)
        times.append(clip.start + np.arange(len(rows), dtype=np.float64) * hop)
        values.append(rows.cpu().numpy())
        if uncertainty is not None:
            frames = uncertainty.frames(batch)[0]  # [T]
            uncertainties.append((frames.mean()[None] if level == "clip" else frames).cpu().numpy())
        progress(number)
    if first is not None and len(skipped) == len(clips) and not isinstance(first, AudioError):
        raise first  # the encoder takes none of them
    if not values:
        raise AudioError(
            itemise("none of the files could be read:", skipped),
            hint="give wav, flac, ogg or mp3 files",
        )
    return Embeddings(
        paths,
        np.concatenate(times),
        np.concatenate(values),
        clips=len(values),
        skipped=skipped,
        uncertainty=np.concatenate(uncertainties) if uncertainties else None,
    )


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
        UsageError: neither ``.npz`` nor ``.parquet``, or parquet without pyarrow.
    """
    if out.suffix not in (".npz", ".parquet"):
        raise UsageError(
            f"{out}: cannot write {out.suffix or 'a file without ending'}", hint="end it in .npz or .parquet"
        )
    if out.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise UsageError(
                f"{out}: parquet needs pyarrow", hint="pip install 'ssl-wb[datasets]', or write .npz"
            ) from error

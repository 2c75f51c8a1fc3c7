"""How a clip of any length is cut into the chunks that an encoder reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ssl_wb.plugin.importer import ClipReading

__all__ = ["Chunk", "ChunkPlan"]


@dataclass(frozen=True)
class Chunk:
    """A stretch of one clip.

    Attributes:
        clip: index in the batch.
        frame: its first spectrogram frame.
        first: its first column of the result.
        columns: columns of the result that it gives.
        place: its first column among all that are encoded of the clip, padding included.
        encoded: columns that are encoded; more than ``columns`` where a chunk is padded to a fixed length.
    """

    clip: int
    frame: int
    first: int
    columns: int
    place: int
    encoded: int


class ChunkPlan:
    """Cuts clips into chunks as a :class:`~ssl_wb.plugin.importer.ClipReading` says.

    Args:
        reading: how clips are read.
        width: frames of a patch.
    """

    def __init__(self, reading: ClipReading, width: int) -> None:
        self.reading, self.width = reading, width

    def chunks_of(self, frames: int, clip: int = 0) -> list[Chunk]:
        """Return the chunks of a clip of ``frames`` spectrogram frames, in time."""
        reading, width = self.reading, self.width
        step = max(width, reading.chunk_frames or -(-frames // width) * width)
        full = step // width  # columns of a whole chunk; frames after them are lost, as in M2D's chunks of 1001
        if reading.long_clips == "cut":
            frames = min(frames, step)
        chunks: list[Chunk] = []
        first = place = 0
        for start in range(0, frames, step):
            rest = min(step, frames - start)
            columns = rest // width if reading.partial_patch == "dropped" else -(-rest // width)
            if not columns and start:
                break
            columns = min(max(columns, 1), full)  # a clip shorter than a patch is padded to one, whatever the rest
            encoded = full if reading.padded_chunks else columns
            chunks.append(Chunk(clip, start, first, columns, place, encoded))
            first, place = first + columns, place + encoded
        return chunks

    def columns_of(self, frames: int) -> int:
        """Return the columns that a clip of ``frames`` spectrogram frames gives."""
        return sum(chunk.columns for chunk in self.chunks_of(frames))

    def centres_of(self, frames: int) -> list[float]:
        """Return the centre of each column of a clip of ``frames`` frames, counted in spectrogram frames."""
        half = (self.width - 1) / 2
        return [
            chunk.frame + column * self.width + half
            for chunk in self.chunks_of(frames)
            for column in range(chunk.columns)
        ]

    def encoded_of(self, frames: int) -> int:
        """Return the columns that are encoded of a clip of ``frames`` frames, padding to a fixed length included."""
        return sum(chunk.encoded for chunk in self.chunks_of(frames))

    def passes(self, chunks: Sequence[Chunk], rows: int, patches: int) -> Iterator[list[Chunk]]:
        """Yield chunks of equal length, as many at a time as hold ``patches`` patches in ``rows`` rows each."""
        by_length: dict[int, list[Chunk]] = {}
        for chunk in chunks:
            by_length.setdefault(chunk.encoded, []).append(chunk)
        for length, equal in sorted(by_length.items()):
            size = max(1, patches // (length * rows))
            for begin in range(0, len(equal), size):
                yield equal[begin : begin + size]

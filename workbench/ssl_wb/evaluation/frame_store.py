"""Frames of clips of any length, each clip's own one after the other, on disk where they exceed a budget."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BUDGET", "FrameStore", "FrameWriter"]

#: Bytes of frames that are kept in memory; more are written to a temporary file and memory-mapped.
BUDGET = 256 * 2**20


class FrameStore(np.lib.mixins.NDArrayOperatorsMixin):
    """Frames of clips, read as the array ``[clips, T, D]`` that they would be if all were padded to the longest.

    Only what is indexed is made: ``store[clips]`` is padded with 0 to the longest of all clips, ``store[clips, :T]`` to
    T frames, as numpy does it. ``np.asarray(store)`` makes the whole padded array.

    Args:
        frames: float32 ``[all frames, D]``, may be memory-mapped.
        first: int64 ``[clips]``, row of each clip's first frame.
        counts: int64 ``[clips]``, its number of frames.
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, frames: NDArray[np.float32], first: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        self.frames, self.first, self.counts = frames, first, counts

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the padded array: clips, frames of the longest, width."""
        return len(self.counts), int(self.counts.max(initial=0)), self.frames.shape[1]

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, key: Any) -> Any:
        """Return what the padded array has there."""
        clips, *rest = key if isinstance(key, tuple) else (key,)
        simple = isinstance(clips, (int, np.integer, slice, np.ndarray, list))
        if not simple or not all(isinstance(one, slice) for one in rest):
            return np.asarray(self)[key]
        longest = self.shape[1]
        start, stop, step = rest[0].indices(longest) if rest else (0, longest, 1)
        if step != 1:
            return np.asarray(self)[key]
        numbers = np.arange(len(self))[clips]  # [] or [n]
        padded = np.zeros((*numbers.shape, max(0, stop - start), self.shape[2]), dtype=np.float32)  # [..., T, D]
        for place, clip in np.ndenumerate(numbers):
            own = self.clip(int(clip))[start:stop]  # [T, D]
            padded[place][: len(own)] = own
        return padded[..., rest[1]] if len(rest) > 1 else padded

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[clip] for clip in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **settings: Any) -> Any:
        arrays = [np.asarray(one) if isinstance(one, FrameStore) else one for one in inputs]
        return getattr(ufunc, method)(*arrays, **settings)

    def __getattr__(self, name: str) -> Any:
        """Return what an array has, such as ``sum``: of the whole padded array, for plugins that do not slice first."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def clip(self, index: int) -> NDArray[np.float32]:
        """Return the frames of one clip, ``[T, D]``, T its own number; not copied."""
        return self.frames[self.first[index] : self.first[index] + self.counts[index]]


class FrameWriter:
    """Collects frames of clips in any order.

    Args:
        clips: number of clips.
        budget: bytes kept in memory.
    """

    def __init__(self, clips: int, budget: int = BUDGET) -> None:
        self._first = np.zeros(clips, dtype=np.int64)
        self._counts = np.zeros(clips, dtype=np.int64)
        self._budget = budget
        self._parts: list[NDArray[np.float32]] = []
        self._file: IO[bytes] | None = None
        self._rows = self._width = 0

    def add(self, clip: int, frames: NDArray[np.float32]) -> None:
        """Append the frames of a clip, float32 ``[T, D]``."""
        frames = np.ascontiguousarray(frames, dtype=np.float32)
        self._first[clip], self._counts[clip] = self._rows, len(frames)
        self._rows, self._width = self._rows + len(frames), frames.shape[1]
        if self._file is None and 4 * self._rows * self._width > self._budget:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the store, and has no name
            for part in self._parts:
                part.tofile(self._file)
            self._parts.clear()
        if self._file is None:
            self._parts.append(frames.copy())  # not a view of a whole padded batch
        else:
            frames.tofile(self._file)

    def finish(self) -> FrameStore:
        """Return what was added; call it once."""
        frames: NDArray[np.float32]
        if self._file is None:
            frames = np.concatenate(self._parts) if self._parts else np.zeros((0, 0), dtype=np.float32)
        else:
            self._file.flush()
            frames = np.memmap(self._file, dtype=np.float32, mode="r", shape=(self._rows, self._width))
        return FrameStore(frames, self._first, self._counts)

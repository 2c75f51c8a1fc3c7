"""Decoding: a slice of a file as mono float32 at the rate asked for.

soundfile (libsndfile) reads wav, flac, ogg, mp3, aiff and more, and seeks, so that a crop of an hour-long
file costs a crop. Resampling is torchaudio's Kaiser-windowed sinc with MATPAC's settings;
torchaudio is imported when a file first needs it, because the import takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from ssl_wb.errors import AudioError

__all__ = ["EXTENSIONS", "AudioInfo", "AudioSource", "StoredAudio", "info", "read", "read_samples"]

#: Endings (lower case) that a folder is searched for; soundfile decodes all of them.
EXTENSIONS = frozenset(
    {
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".caf",
        ".w64",
        ".rf64",
    }
)

#: MATPAC's settings of the sinc interpolation.
LOWPASS_FILTER_WIDTH = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492

#: Polyphase kernels have one row per output phase. Rates such as 44,101 Hz would need 16,000 rows; their
#: ratio is rounded to a denominator of at most this (relative error about 1e-6, far below what anyone hears).
LARGEST_DENOMINATOR = 1000


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        frames: samples per channel at the file's own rate.
        sample_rate: samples per second of the file.
        channels: number of channels.
    """

    frames: int
    sample_rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    def samples_at(self, sample_rate: int) -> int:
        """Samples per channel once resampled to ``sample_rate``."""
        ratio = _ratio(self.sample_rate, sample_rate)
        return math.ceil(self.frames * ratio.denominator / ratio.numerator)


class StoredAudio(Protocol):
    """Encoded audio that is no file of its own but lies within something larger; ``str()`` names it in messages."""

    @property
    def name(self) -> str:
        """What it is called within the whole, as a file's name is within its folder."""

    @property
    def stamp(self) -> str:
        """Which audio it is; changes whenever the audio may have."""

    def open(self) -> BinaryIO:
        """Open its bytes to read and to seek in.

        Raises:
            AudioError: there are none.
            DataError: the whole is gone.
        """


#: Where audio is read from.
AudioSource = str | Path | StoredAudio


def info(path: AudioSource) -> AudioInfo:
    """Read a file's header.

    Raises:
        AudioError: the file is absent, is not audio, or holds no samples.
    """
    with _opened(_place(path)) as file:
        return _describe(file)


def read(
    path: AudioSource, sample_rate: int, *, start: float = 0.0, duration: float | None = None
) -> NDArray[np.float32]:
    """Decode a slice as mono.

    A slice holds the very samples that the whole file, resampled, has there.

    Args:
        path: an audio file, or audio stored otherwise.
        sample_rate: samples per second wanted.
        start: seconds into the file.
        duration: seconds wanted, or None for all that follows; what lies past the file's end is left out.

    Returns:
        float32 ``[S]``, the mean of the channels.

    Raises:
        AudioError: the file is absent, unreadable, empty, ends before ``start``, or has samples that are not
            finite.
    """
    count = None if duration is None else max(1, round(duration * sample_rate))
    return read_samples(path, sample_rate, round(start * sample_rate), count)


def read_samples(path: AudioSource, sample_rate: int, first: int = 0, count: int | None = None) -> NDArray[np.float32]:
    """Decode ``count`` samples from sample ``first`` on, counted at ``sample_rate``; see :func:`read`."""
    path = _place(path)
    with _opened(path) as file:
        header = _describe(file)
        total = header.samples_at(sample_rate)
        if first >= total:
            raise AudioError(
                f"{path}: ends at {header.seconds:.3f} s, before the start asked for, {first / sample_rate:.3f} s",
                hint="Correct 'start' in the manifest; it counts seconds from the beginning of the file.",
            )
        stop = total if count is None else min(total, first + count)
        waveform = _resampled(file, _ratio(header.sample_rate, sample_rate), first, stop, header.frames)  # [S]
    if not waveform.size:
        raise AudioError(
            f"{path}: no samples could be decoded at {first / sample_rate:.3f} s",
            hint="The file is probably cut short; copy or convert it again, or leave it out.",
        )
    if not np.isfinite(waveform).all():
        raise AudioError(
            f"{path}: has samples that are NaN or infinite",
            hint="A float file was written with bad values; convert it to 16-bit, or leave it out.",
        )
    return waveform


def _place(path: AudioSource) -> Path | StoredAudio:
    return Path(path) if isinstance(path, str) else path


@contextmanager
def _opened(path: Path | StoredAudio) -> Iterator[soundfile.SoundFile]:
    """Open for reading; whatever libsndfile says becomes an AudioError with the file's name."""
    try:
        # libsndfile seeks in what is open already, so that of stored audio, too, no more is read than is needed.
        with nullcontext(path) if isinstance(path, Path) else path.open() as place, soundfile.SoundFile(place) as file:
            if file.frames <= 0:
                raise AudioError(f"{path}: holds no samples", hint="Leave the file out or record it again.")
            yield file
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError) as error:
        if isinstance(path, Path) and not path.exists():
            raise AudioError(
                f"{path}: no such file", hint="Check the path; manifests count from their own folder."
            ) from error
        if isinstance(path, Path) and path.is_dir():
            raise AudioError(f"{path}: is a folder, not an audio file") from error
        reason = getattr(error, "error_string", None) or str(error)
        raise AudioError(
            f"{path}: cannot be read as audio ({reason.strip().rstrip('.')})",
            hint="Readable are wav, flac, ogg, mp3, aiff, caf and au; convert others with ffmpeg, say.",
        ) from error


def _describe(file: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(int(file.frames), int(file.samplerate), int(file.channels))


def _mono(file: soundfile.SoundFile, first: int, stop: int) -> NDArray[np.float32]:
    """Channel mean of the file's own samples ``first..stop`` as float32 ``[S]``."""
    if first:
        file.seek(first)
    samples = file.read(stop - first, dtype="float32", always_2d=True)  # [S, C]
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    return np.asarray(samples.mean(axis=1), dtype=np.float32)


@lru_cache(maxsize=64)
def _ratio(source_rate: int, target_rate: int) -> Fraction:
    """Input samples per output sample, in lowest terms."""
    return Fraction(source_rate, target_rate).limit_denominator(LARGEST_DENOMINATOR)


@lru_cache(maxsize=8)
def _resampler(numerator: int, denominator: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Resample by a ratio; the kernel is computed once per ratio and process."""
    from torchaudio.transforms import Resample

    resampler: Callable[[torch.Tensor], torch.Tensor] = Resample(
        numerator,
        denominator,
        resampling_method="sinc_interp_kaiser",
        lowpass_filter_width=LOWPASS_FILTER_WIDTH,
        rolloff=ROLLOFF,
        beta=BETA,
    )
    return resampler


def _resampled(file: soundfile.SoundFile, ratio: Fraction, first: int, stop: int, frames: int) -> NDArray[np.float32]:
    """Output samples ``first..stop`` of the resampled file, from the input they depend on and no more.

    The slice read starts at a multiple of ``ratio.numerator`` input samples: there an output sample falls
    exactly on an input sample, as at the file's beginning, so that the filter's phases are the same as in the
    whole file.
    """
    if ratio == 1:
        return _mono(file, first, stop)
    into, out = ratio.numerator, ratio.denominator
    reach = math.ceil(LOWPASS_FILTER_WIDTH * into / (min(into, out) * ROLLOFF)) + 1  # filter half-width, input samples
    block = max(0, first // out - math.ceil(reach / into))
    begin = block * into
    end = min(frames, math.ceil(stop * into / out) + reach + into)
    source = torch.from_numpy(_mono(file, begin, end))  # [S_in]
    skipped = block * out
    with torch.no_grad():
        resampled = _resampler(into, out)(source)  # [S_out]
    return np.ascontiguousarray(resampled[first - skipped : stop - skipped].numpy())

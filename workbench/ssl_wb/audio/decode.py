"""Decoding: a slice of a file as mono float32 at the requested sample rate.

soundfile (libsndfile) reads wav, flac, ogg, mp3, aiff and more, and seeks, so that a crop of an hour-long file costs no
more than one of a short file. Resampling is torchaudio's Kaiser-windowed sinc with the settings of MATPAC's released
code. torchaudio is imported when a file first needs it, because the import takes seconds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from ssl_wb.audio.lengths import count_flac_samples, flac_with_length, frames_of_mp3, mp3_with_length, needs_counting
from ssl_wb.errors import AudioError

__all__ = ["EXTENSIONS", "AudioInfo", "AudioSource", "StoredAudio", "info", "read", "read_channels", "read_samples"]

#: Endings, in lower case, of the files that a folder is searched for; soundfile decodes all of them.
EXTENSIONS = frozenset(
    f".{ending}"
    for ending in ("wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "caf", "w64", "rf64")
)

#: MATPAC's settings of the sinc interpolation: those that torchaudio's tutorial gives for librosa's "kaiser_best".
LOWPASS_FILTER_WIDTH = 64
ROLLOFF = 0.9475937167399596
BETA = 14.769656459379492

#: A polyphase kernel has one row per output phase, that is per unit of the ratio's denominator. 44,100 Hz to 16,000 Hz
#: needs 160 rows, but 44,101 Hz would need 16,000. So the denominator is limited; the relative error of the rate is
#: about 1e-6, and nobody hears it.
LARGEST_DENOMINATOR = 1000

#: Hz that a header may tell. Ultrasound is recorded at a few MHz; the filter for a rate of GHz takes 40 GB, and rates
#: of a few Hz have no ratio to 16,000 Hz with the denominator above. Such headers are damaged.
SAMPLE_RATES = (100, 4_000_000)
#: Samples of an MP3 file decoded before those asked for: 10 frames. A frame refers to bits of the frames before it and
#: overlaps with the last one, so that the first frames after a seek are wrong (by 0.05 of full scale, measured).
MP3_LEAD = 10 * 1152
#: Samples beyond this are garbage: full scale is 1, and 32-bit integers written as floats reach 2^31. The power of the
#: largest finite float is infinite, and so would be the statistics of all clips.
LARGEST_SAMPLE = 1e10
#: Samples that libsndfile takes for the length of a file whose header tells none are 2^63 - 1.
_NO_LENGTH = 1 << 62


@dataclass(frozen=True)
class AudioInfo:
    """The header of an audio file.

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
        """Return the samples per channel after resampling to ``sample_rate``."""
        ratio = _ratio(self.sample_rate, sample_rate)
        return math.ceil(self.frames * ratio.denominator / ratio.numerator)


class StoredAudio(Protocol):
    """Encoded audio inside a larger file, such as a row of an Arrow file; ``str()`` names it in messages."""

    @property
    def name(self) -> str:
        """Name within the larger file, as a file has a name within its folder."""

    @property
    def stamp(self) -> str:
        """Identity of the audio for caches; changes whenever the audio may have changed."""

    def open(self) -> BinaryIO:
        """Open the encoded bytes for reading and seeking.

        Raises:
            AudioError: there are none.
            DataError: the larger file is gone or has changed.
        """


#: Where audio is read from.
AudioSource = str | Path | StoredAudio


def info(path: AudioSource) -> AudioInfo:
    """Read a file's header.

    Raises:
        AudioError: the file is absent, is not audio, or holds no samples.
    """
    with _opened(path) as file:
        return _describe(file)


def read(
    path: AudioSource, sample_rate: int, *, start: float = 0.0, duration: float | None = None
) -> NDArray[np.float32]:
    """Decode a slice as mono.

    A slice has exactly the samples that the whole file, resampled, has there.

    Args:
        path: an audio file, or audio stored otherwise.
        sample_rate: samples per second of the result.
        start: seconds from the beginning of the file.
        duration: seconds, or None up to the end; what lies past the end of the file is left out.

    Returns:
        float32 ``[S]``, the mean of the channels.

    Raises:
        AudioError: the file is absent, unreadable, empty, ends before ``start``, or has samples that are not
            finite.
    """
    count = None if duration is None else max(1, round(duration * sample_rate))
    return read_samples(path, sample_rate, round(start * sample_rate), count)


def read_samples(path: AudioSource, sample_rate: int, first: int = 0, count: int | None = None) -> NDArray[np.float32]:
    """Decode ``count`` samples from sample ``first`` on, both at ``sample_rate``; see :func:`read`."""
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
    _check_samples(path, waveform, first / sample_rate)
    return waveform


def read_channels(path: AudioSource, start: float, duration: float) -> NDArray[np.float32]:
    """Decode a slice as it is stored: float32 ``[S, C]``, at the file's own rate.

    Args:
        path: an audio file, or audio stored otherwise.
        start: seconds from the beginning of the file.
        duration: seconds; what lies past the end of the file is left out.

    Raises:
        AudioError: as :func:`read`.
    """
    with _opened(path) as file:
        file.seek(min(int(file.frames), round(start * file.samplerate)))
        samples = file.read(max(1, round(duration * file.samplerate)), dtype="float32", always_2d=True)  # [S, C]
    _check_samples(path, samples, start)
    return np.asarray(samples, dtype=np.float32)


def _check_samples(path: AudioSource, samples: NDArray[np.float32], start: float) -> None:
    """Refuse decoded samples that are none, not finite or absurd; ``start`` is in seconds."""
    if not samples.size:
        raise AudioError(
            f"{path}: no samples could be decoded at {start:.3f} s",
            hint="The file is probably cut short; copy or convert it again, or leave it out.",
        )
    if not np.isfinite(samples).all():
        raise AudioError(
            f"{path}: has samples that are NaN or infinite",
            hint="A float file was written with bad values; convert it to 16-bit, or leave it out.",
        )
    if (peak := float(np.abs(samples).max())) > LARGEST_SAMPLE:
        raise AudioError(
            f"{path}: has a sample of {peak:.3g}, and full scale is 1",
            hint="A float file was written with bad values; convert it to 16-bit, or leave it out.",
        )


@contextmanager
def _opened(path: AudioSource) -> Iterator[soundfile.SoundFile]:
    """Open for reading; any error of libsndfile becomes an AudioError with the file's name."""
    if isinstance(path, str):
        path = Path(path)
    try:
        with ExitStack() as stack:
            # Of an open binary file libsndfile reads only what it needs, so that stored audio is not read whole either.
            # soundfile takes a name that is not UTF-8 as bytes only.
            place = os.fsencode(path) if isinstance(path, Path) else stack.enter_context(path.open())
            file = stack.enter_context(soundfile.SoundFile(place))
            if file.format == "MP3" or file.frames >= _NO_LENGTH:
                corrected = _corrected(path, file.format, stack)
                file = file if corrected is None else stack.enter_context(soundfile.SoundFile(corrected))
            _check_header(path, file)
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


def _corrected(path: Path | StoredAudio, kind: str, stack: ExitStack) -> BinaryIO | None:
    """Open a file with its length in the header; None where the header tells it, or it cannot be counted."""
    if isinstance(path, Path):
        status = path.stat()
        stamp = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
    else:
        stamp = path.stamp

    def opened() -> BinaryIO:
        return stack.enter_context(path.open("rb") if isinstance(path, Path) else path.open())

    if stamp not in _counted:  # a file is counted once per process
        if kind == "MP3":
            file = opened()
            _counted[stamp] = frames_of_mp3(file) if needs_counting(file) else None
        else:
            _counted[stamp] = count_flac_samples(opened()) if kind == "FLAC" else None
    counted = _counted[stamp]
    if isinstance(counted, tuple):
        joined = mp3_with_length(opened(), *counted)
    elif counted is not None:
        joined = flac_with_length(opened(), counted)
    else:
        return None
    joined.seek(0)  # libsndfile begins where the file is
    return joined


#: Frames of MP3 files or samples of FLAC files, by path, size and time; None where the header is right.
_counted: dict[str, tuple[int, int, int] | int | None] = {}


def _check_header(path: Path | StoredAudio, file: soundfile.SoundFile) -> None:
    """Refuse a header that cannot be true, or a file without samples."""
    lowest, highest = SAMPLE_RATES
    if not lowest <= file.samplerate <= highest:
        raise AudioError(
            f"{path}: its header says {file.samplerate} samples per second, which cannot be",
            hint="The header is damaged: write the right rate into it with sox or ffmpeg, or leave the file out.",
        )
    if file.frames >= _NO_LENGTH:
        raise AudioError(
            f"{path}: its header tells no length, and the file does not end as it should",
            hint="It was probably cut while it was written to a pipe: convert it with flac or ffmpeg, or leave it out.",
        )
    if file.frames <= 0:
        raise AudioError(f"{path}: holds no samples", hint="Leave the file out or record it again.")


def _describe(file: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(int(file.frames), int(file.samplerate), int(file.channels))


def _mono(file: soundfile.SoundFile, first: int, stop: int) -> NDArray[np.float32]:
    """Read samples ``first..stop`` at the file's own rate, mean of the channels, float32 ``[S]``."""
    lead = 0
    if first:
        lead = min(first, MP3_LEAD) if file.format == "MP3" else 0
        file.seek(first - lead)
    samples = file.read(stop - first + lead, dtype="float32", always_2d=True)[lead:]  # [S, C]
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    return np.asarray(samples.mean(axis=1), dtype=np.float32)


@lru_cache(maxsize=64)
def _ratio(source_rate: int, target_rate: int) -> Fraction:
    """Return input samples per output sample, in lowest terms."""
    return Fraction(source_rate, target_rate).limit_denominator(LARGEST_DENOMINATOR)


@lru_cache(maxsize=8)
def _resampler(numerator: int, denominator: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a resampler by a ratio; its kernel is computed once per ratio and process."""
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
    """Return output samples ``first..stop`` of the resampled file, reading only the input that they depend on.

    The input slice begins at a multiple of ``ratio.numerator`` samples. There, as at the beginning of the file, an
    output sample coincides with an input sample, so that each output sample is computed by the same phase of the filter
    as in the whole file. A slice that began elsewhere would be shifted by a fraction of a sample.
    """
    if ratio == 1:
        return _mono(file, first, stop)
    into, out = ratio.numerator, ratio.denominator  # of every ``into`` input samples come ``out`` output samples
    reach = math.ceil(LOWPASS_FILTER_WIDTH * into / (min(into, out) * ROLLOFF)) + 1  # filter half-width, input samples
    block = max(0, first // out - math.ceil(reach / into))  # periods of the phases to leave out at the beginning
    begin = block * into
    end = min(frames, math.ceil(stop * into / out) + reach + into)
    source = torch.from_numpy(_mono(file, begin, end))  # [S_in]
    skipped = block * out
    with torch.no_grad():
        resampled = _resampler(into, out)(source)  # [S_out]
    return np.ascontiguousarray(resampled[first - skipped : stop - skipped].numpy())

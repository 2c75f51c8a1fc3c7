"""Files whose header tells no length, or a guessed one: the length is counted and put into the header that is read.

libsndfile believes headers. Of an MP3 file without a Xing, Info or VBRI frame it guesses the length from the first bit
rate, and reads no sample beyond the guess. A FLAC file that was written to a pipe says 0 samples, which libsndfile
takes for 2^63 - 1 and cannot seek in. The files themselves are whole: only a few bytes of the header are replaced, in
memory, while the file is read.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Frame", "count_flac_samples", "flac_with_length", "frames_of_mp3", "mp3_with_length", "needs_counting"]

#: kbit/s by bit rate index of MPEG-1 and of MPEG-2 and 2.5, layer III.
_BIT_RATES = {
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
#: Hz by sample rate index, by the two version bits of a frame header.
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
#: Bytes searched for the first frame behind the tags.
_SEARCHED = 65536
#: Bytes at the end of a FLAC file in which its last frame begins: one of 65,535 samples of 8 channels fits.
_LAST_FRAME = 1 << 21
#: A header's count of bytes may be off by its own frame and the tags around it.
_TAGS = 4096


@dataclass(frozen=True)
class Frame:
    """The header of an MP3 frame (layer III).

    Attributes:
        head: its 4 bytes.
        size: bytes of the frame.
        samples: per channel.
        side: bytes of side information, which follow the header.
    """

    head: bytes
    size: int
    samples: int
    side: int


def _frame(head: bytes) -> Frame | None:
    """Parse 4 bytes; None where they are no header of a layer III frame."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bit_rate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer != 1 or bit_rate in (0, 15) or rate == 3:
        return None
    first = version == 3
    samples = 1152 if first else 576
    kilobits = _BIT_RATES[1 if first else 2][bit_rate]
    size = samples * 125 * kilobits // _RATES[version][rate] + (head[2] >> 1 & 1)
    mono = head[3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Frame(head[:4], size, samples, side)


def _first_frame(file: BinaryIO) -> tuple[int, Frame] | None:
    """Return place and header of an MP3 file's first frame; None where there is none."""
    file.seek(0)
    start, head = 0, file.read(10)
    while head[:3] == b"ID3" and len(head) == 10:  # a tag: its length in four bytes of 7 bits, without its own 10
        start += 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])
        file.seek(start)
        head = file.read(10)
    file.seek(start)
    data = file.read(_SEARCHED)
    at = data.find(b"\xff")
    while at >= 0:
        frame = _frame(data[at : at + 4])
        # Two headers in a row: a single one may be chance.
        if frame and (at + frame.size >= len(data) - 4 or _frame(data[at + frame.size : at + frame.size + 4])):
            return start + at, frame
        at = data.find(b"\xff", at + 1)
    return None


def needs_counting(file: BinaryIO) -> bool:
    """Whether an MP3 file has no header frame with its length, or one that is not about this file.

    A file that was cut or joined keeps the header of its first part: its count of bytes then differs from the file's.
    """
    found = _first_frame(file)
    if found is None:
        return False  # not layer III, or damaged: as libsndfile reads it
    start, frame = found
    file.seek(start)
    data = file.read(frame.size)
    if data[36:40] == b"VBRI":
        return False
    tag = 4 + frame.side
    if data[tag : tag + 4] not in (b"Xing", b"Info"):
        return True
    flags = int.from_bytes(data[tag + 4 : tag + 8], "big")
    if flags & 3 != 3:  # not both, frames and bytes
        return True
    told = int.from_bytes(data[tag + 12 : tag + 16], "big")
    here = file.seek(0, io.SEEK_END) - start
    return abs(told - here) > max(_TAGS, here // 50)


def frames_of_mp3(file: BinaryIO) -> tuple[int, int, int]:
    """Walk over all frames of an MP3 file by their headers, without decoding.

    Returns:
        Where the first audio frame begins, where the last one ends, and how many there are.
    """
    found = _first_frame(file)
    if found is None:
        return 0, 0, 0
    start, frame = found
    file.seek(start)
    data = file.read(frame.size)
    if data[4 + frame.side :][:4] in (b"Xing", b"Info"):
        start += frame.size  # the header frame holds no audio
    file.seek(start)
    content = file.read()
    at = count = 0
    while header := _frame(content[at : at + 4]):
        at += header.size
        count += 1
    return start, start + min(at, len(content)), count


def mp3_with_length(file: BinaryIO, start: int, end: int, count: int) -> BinaryIO:
    """Return an MP3 file with a header frame that tells its length before its own frames.

    Args:
        file: as it is.
        start: see :func:`frames_of_mp3`.
        end: likewise.
        count: likewise.
    """
    file.seek(start)
    head = bytearray(file.read(4))
    head[1] |= 1  # no checksum
    # A frame of the highest bit rate has room for the header.
    head[2] = head[2] & 0x0D | 14 << 4
    frame = _frame(bytes(head))
    assert frame is not None
    silent = bytes(head) + bytes(frame.size - 4)
    body = bytearray(silent)
    tag = 4 + frame.side
    body[tag : tag + 16] = struct.pack(">4sIII", b"Xing", 3, count + 1, end - start + 2 * frame.size)
    # mpg123 leaves out the decoder's delay of 529 samples and the encoder's, which the tag tells. The two together are
    # made one frame, and a silent frame is put before the file's own, so that nothing of the file is left out.
    body[tag + 16 : tag + 40] = b"LAME3.100" + bytes(12) + ((frame.samples - 529) << 12 | 529).to_bytes(3, "big")
    body += silent
    return _Joined(bytes(body), file, start, end)


def count_flac_samples(file: BinaryIO) -> int | None:
    """Return the samples per channel of a FLAC file by its last frame, whose header says where it begins.

    The frame is the one whose checksum is at the end of the file (RFC 9639, section 9). None where there is none, as in
    a file that was cut.
    """
    file.seek(0)
    smallest_block = int.from_bytes(file.read(10)[8:], "big")  # of STREAMINFO: that of all frames but the last
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - _LAST_FRAME))
    data = file.read()
    at = data.rfind(b"\xff")
    while at >= 0:
        found = _flac_frame(data[at : at + 16])
        if found is not None and _crc(data[at:], 16, 0x8005) == 0:  # over a frame and its checksum
            number, block, variable = found
            return block + (number if variable else number * smallest_block)
        at = data.rfind(b"\xff", 0, at)
    return None


def _flac_frame(head: bytes) -> tuple[int, int, bool] | None:
    """Parse the header of a FLAC frame.

    Returns:
        Number of the frame, or of its first sample where blocks vary in size; its samples; whether they vary. None
        where the bytes are no header.
    """
    if len(head) < 6 or head[1] & 0xFE != 0xF8 or head[2] >> 4 == 0 or head[2] & 15 == 15 or head[3] & 1:
        return None
    # The number is written as UTF-8 writes a character, in up to 7 bytes.
    ones = 8 - (head[4] ^ 0xFF).bit_length()
    if ones == 1 or ones == 8:
        return None
    more = max(0, ones - 1)
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    at, code, rate = 5 + more, head[2] >> 4, head[2] & 15
    extra = {6: 1, 7: 2}.get(code, 0)
    if extra:
        block = int.from_bytes(head[at : at + extra], "big") + 1
    else:
        block = 192 if code == 1 else 576 << (code - 2) if code < 6 else 256 << (code - 8)
    at += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if len(head) <= at or _crc(head[: at + 1], 8, 0x07):
        return None
    return number, block, bool(head[1] & 1)


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    """Return the checksum of bytes, the highest bit first, from 0 on; 0 for bytes followed by their checksum."""
    top, mask, value = 1 << (bits - 1), (1 << bits) - 1, 0
    table = []
    for byte in range(256):
        entry = byte << (bits - 8)
        for _ in range(8):
            entry = (entry << 1 ^ (polynomial if entry & top else 0)) & mask
        table.append(entry)
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> (bits - 8) ^ byte]
    return value


def flac_with_length(file: BinaryIO, samples: int) -> BinaryIO:
    """Return a FLAC file whose STREAMINFO tells its length: 36 bits from byte 21.5 on."""
    file.seek(0)
    head = bytearray(file.read(26))
    head[21] = head[21] & 0xF0 | samples >> 32 & 0x0F
    head[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return _Joined(bytes(head), file, 26, file.seek(0, io.SEEK_END))


class _Joined(io.RawIOBase, BinaryIO):
    """Some bytes followed by a part of a file, read as one file.

    Args:
        head: the bytes.
        file: what follows.
        start: where the part begins.
        end: where it ends.
    """

    def __init__(self, head: bytes, file: BinaryIO, start: int, end: int) -> None:
        self._head, self._file, self._start = head, file, start
        self._size = len(head) + end - start
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        part = self._head[self._at : self._at + size]
        if len(part) < size:
            self._file.seek(self._start + self._at + len(part) - len(self._head))
            part += self._file.read(size - len(part))
        self._at += len(part)
        return part

"""What a user should know of clips before hours of work: files counted twice, and what a sample of them holds."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ssl_wb.audio.clip import Clip, ClipSet
from ssl_wb.audio.inspect import Oddity, find_oddity
from ssl_wb.errors import AudioError

__all__ = ["QUICK", "SampleCheck", "check_sample", "data_warnings", "duplicate_warning"]

#: Files opened, spread evenly over the clips, and seconds that may pass until no further one is opened.
SAMPLE, BUDGET = 64, 1.5
#: Seconds of commands that take seconds themselves.
QUICK = 0.5
#: Seconds decoded of each.
STRETCH = 10.0
#: Clips up to which links to one file are looked for: that asks the file system once for each.
MOST_ASKED = 100_000

#: What an oddity is called, and what to do.
_ODDITIES: dict[Oddity, str] = {
    "silent": "hold nothing but zeros in the stretch that was read: listen to some, and leave out those that are empty",
    "cancelled": "have channels that cancel each other in the mono mix, so that nearly silence is read: keep one "
    "channel, say with `ffmpeg -i in.wav -af 'pan=mono|c0=c0' out.wav`",
    "too loud": "have samples far beyond full scale, which is 1, as 16-bit integers written as floats: divide them by "
    "32768",
}


@dataclass(frozen=True)
class SampleCheck:
    """What a sample of clips holds.

    Attributes:
        opened: clips that were opened.
        unreadable: one message for each that cannot be read.
        odd: the files with each oddity.
    """

    opened: int
    unreadable: list[str] = field(default_factory=list)
    odd: dict[Oddity, list[str]] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """Return a sentence for each thing that is wrong."""
        found = []
        if self.unreadable:
            found.append(
                f"{len(self.unreadable)} of {self.opened} files opened cannot be read, such as {self.unreadable[0]}"
            )
        for oddity, names in self.odd.items():
            found.append(f"{len(names)} of {self.opened} files opened, such as {names[0]}, {_ODDITIES[oddity]}")
        return found


def check_sample(clips: Sequence[Clip] | ClipSet, *, most: int = SAMPLE, seconds: float = BUDGET) -> SampleCheck:
    """Decode the beginning of some clips, spread evenly, to find files that cannot be read and odd recordings.

    Args:
        clips: the clips.
        most: clips opened at most.
        seconds: after which no further one is opened.
    """
    until = time.monotonic() + seconds
    unreadable: list[str] = []
    odd: defaultdict[Oddity, list[str]] = defaultdict(list)
    opened = 0
    chosen = sorted({number * len(clips) // most for number in range(most)}) if len(clips) else []
    # Those in the middle of the rest first, so that a sample cut short is spread over all clips, too.
    for index in sorted(chosen, key=lambda index: (index * 0.6180339887) % 1.0):
        if time.monotonic() > until:
            break
        clip, opened = clips[index], opened + 1
        try:
            oddity = find_oddity(clip.path, clip.start, min(STRETCH, clip.duration or STRETCH))
        except AudioError as error:
            unreadable.append(error.message)
            continue
        if oddity is not None:
            odd[oddity].append(str(clip.path))
    return SampleCheck(opened, unreadable, dict(odd))


def duplicate_warning(clips: ClipSet) -> str | None:
    """Return a sentence about clips that are there more than once: repeated lines, and links to one file.

    Copies with names of their own are not looked for: that would read every file.
    """
    asked = len(clips) <= MOST_ASKED
    first: dict[tuple[object, float, float | None], Clip] = {}
    repeated: list[tuple[Clip, Clip]] = []
    for clip in clips:
        if not isinstance(clip.path, Path):
            continue
        key = (_file(clip.path) if asked else clip.path, clip.start, clip.duration)
        if key in first:
            repeated.append((first[key], clip))
        else:
            first[key] = clip
    if not repeated:
        return None
    one, other = repeated[0]
    what = f"{one.path} is there twice" if one.path == other.path else f"{one.path} and {other.path} are one file"
    return (
        f"{clips.source}: {len(repeated)} of {len(clips)} clips are there already ({what}); each counts as a clip of "
        "its own: leave them out unless you mean it"
    )


def _file(path: Path) -> object:
    """Return what tells a file from others, whatever its name."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a method call per clip takes longer
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else path  # 0 where a file system has none


def data_warnings(clips: ClipSet, *, most: int = SAMPLE, seconds: float = BUDGET) -> list[str]:
    """Return a sentence for each thing that a user should know of clips; see :func:`check_sample`."""
    twice = duplicate_warning(clips)
    sample = check_sample(clips, most=most, seconds=seconds)
    return [*([twice] if twice else []), *(f"{clips.source}: {one}" for one in sample.warnings())]

"""Frames against time, speed against length."""

from __future__ import annotations

import statistics
import threading
import time
from types import TracebackType

import psutil
import torch

from ssl_wb.encoder.check.sounds import burst, voices
from ssl_wb.encoder.check.subject import Check, Row, Subject, Verdict

__all__ = ["TIMING"]

#: Seconds of the clip in which a burst is moved, and the shares of it at which the burst lies.
ALIGNED_SECONDS = 12.0
PLACES = (0.07, 0.18, 0.31, 0.43, 0.56, 0.68, 0.81, 0.93)
#: Seconds of the clips that are timed, besides the longest; repetitions of each.
TIMED, REPETITIONS = (1.0, 10.0), 3


def alignment(subject: Subject) -> Row:
    """A burst at t has to move the frame at t most."""
    name, hop = "a burst moves its own frame", subject.hop
    if hop is None:
        return Row(name, "no frames in time", Verdict.UNCHECKED, "use embeddings of clips")
    clip, sound = voices(ALIGNED_SECONDS, subject.rate, 1)[0], burst(subject.rate)  # [S], [s]
    quiet = subject.frames(clip)  # [T, D]
    errors: list[float] = []
    for share in PLACES:
        start = int(share * len(clip))
        middle = (start + len(sound) / 2) / subject.rate
        if middle >= len(quiet) * hop:
            continue  # of a clip that is not read to its end
        struck = clip.clone()
        struck[start : start + len(sound)] += sound
        moved = (subject.frames(struck) - quiet).norm(dim=1)  # [T]
        errors.append((float(moved.argmax()) + 0.5) * hop - middle)
    if not errors:
        return Row(name, f"{len(quiet)} frames of {1000 * hop:g} ms", Verdict.UNCHECKED, "too few frames for a burst")
    typical, worst = statistics.median(errors), max(errors, key=abs)
    # Half a hop is the grid itself; half a window of analysis and the length of the burst come on top.
    verdict = Verdict.OK
    if abs(typical) > hop + 0.02 or abs(worst) > 2 * hop + 0.04:
        verdict = Verdict.FAULT if abs(typical) > 2 * hop + 0.02 else Verdict.NOTE
    meaning = {
        Verdict.OK: f"frame i stands for {1000 * hop:g} ms from i x {1000 * hop:g} ms on",
        Verdict.NOTE: "some frames answer to sound beside them: do not cut events out by frames",
        Verdict.FAULT: "frames are not where they say: shift them before you compare with labels in time",
    }[verdict]
    return Row(
        name,
        f"off by {1000 * typical:+.0f} ms (median), {1000 * worst:+.0f} ms at most",
        verdict,
        meaning,
        figures={"hop_seconds": hop, "median_seconds": typical, "worst_seconds": worst, "bursts": len(errors)},
    )


def frame_count(subject: Subject) -> Row:
    """Frames times their hop against the length of a clip."""
    name, hop = "frames cover the clip", subject.hop
    if hop is None:
        return Row(name, "no frames in time", Verdict.UNCHECKED, "")
    seconds = subject.clips.shape[1] / subject.rate
    count = len(subject.frames(subject.clips[0]))
    covered = count * hop
    fits = abs(covered - seconds) <= 2 * hop
    return Row(
        name,
        f"{count} x {1000 * hop:g} ms = {covered:.2f} s of {seconds:.2f} s",
        Verdict.OK if fits else Verdict.NOTE,
        "" if fits else "frames and seconds drift apart: take times from the frame's number with care",
        figures={"frames": count, "hop_seconds": hop, "seconds": seconds},
    )


class _PeakMemory:
    """Samples this process' resident memory while a block runs; ``grown`` holds bytes above the start."""

    def __init__(self) -> None:
        self.grown = 0
        self._process, self._done = psutil.Process(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            self.grown = max(self.grown, self._process.memory_info().rss - self._start)

    def __enter__(self) -> _PeakMemory:
        self._start = self._process.memory_info().rss
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()


def speed(subject: Subject) -> Row:
    """Times real time and memory, by length of one clip."""
    device = subject.device
    parts: list[str] = []
    figures: list[dict[str, float]] = []
    for seconds in (*(one for one in TIMED if one < subject.longest), subject.longest):
        clip = voices(seconds, subject.rate, 1)
        times: list[float] = []
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with _PeakMemory() as memory:  # of the first pass: later ones find what it left to the allocator
            subject.embed(clip)
        for _ in range(REPETITIONS):
            begin = time.perf_counter()
            subject.embed(clip)  # its result is copied to the CPU: the device has finished
            times.append(time.perf_counter() - begin)
        grown = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else memory.grown
        rate = seconds / statistics.median(times)
        parts.append(f"{rate:.3g}x at {seconds:g} s ({grown / 2**20:.0f} MB)")
        figures.append({"seconds": seconds, "times_real_time": rate, "bytes": float(grown)})
    return Row(
        f"speed, one clip, {device.type}",
        ", ".join(parts),
        Verdict.OK,
        "times real time, and memory above what it holds anyway",
        figures={"by_length": figures, "threads": torch.get_num_threads()},
    )


TIMING: tuple[Check, ...] = (alignment, frame_count, speed)

"""Name sounds without training: compare audio with class names, by the encoder of a run with captions."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_wb.audio.clip import Clip
from ssl_wb.audio.decode import read
from ssl_wb.encoder.captioned import CaptionedEncoder
from ssl_wb.encoder.files import gather_clips
from ssl_wb.encoder.load import load_encoder
from ssl_wb.errors import AudioError, UsageError, itemise
from ssl_wb.files import written_aside
from ssl_wb.runs.device import named_device

__all__ = ["PROMPT", "Classification", "classify", "read_labels"]

#: Sentence of a label, as the recipes of M2D-CLAP make captions of labels.
PROMPT = "{} can be heard"


@dataclass(frozen=True)
class Classification:
    """How likely each label is for each clip.

    Attributes:
        labels: class names.
        clips: what was read.
        probabilities: float32 ``[clips, labels]``, softmax of the learnt scale times the cosine; rows sum to 1.
        cosines: float32 ``[clips, labels]``, mean over the prompts.
        skipped: a message for each clip that could not be read.
    """

    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    probabilities: Tensor
    cosines: Tensor
    skipped: list[str] = field(default_factory=list)

    def best(self, row: int, count: int) -> list[tuple[str, float]]:
        """Return the likeliest labels of a clip with their probabilities, best first."""
        values, places = self.probabilities[row].topk(min(count, len(self.labels)))
        return [(self.labels[place], float(value)) for value, place in zip(values, places.tolist(), strict=True)]

    def as_json(self) -> list[dict[str, Any]]:
        """Return one object per clip: path, start and the probability of every label."""
        return [
            {"path": str(clip.path), "start": clip.start, "probabilities": dict(zip(self.labels, row, strict=True))}
            for clip, row in zip(self.clips, self.probabilities.tolist(), strict=True)
        ]


def read_labels(text: str) -> tuple[str, ...]:
    """Return labels of ``dog,siren,rain``, or of a text file with one a line.

    Raises:
        UsageError: there are fewer than two, or one is there twice.
    """
    place = Path(text)
    try:
        words = place.read_text(encoding="utf-8").splitlines() if place.is_file() else text.split(",")
    except (OSError, ValueError) as error:  # unreadable, or no UTF-8
        raise UsageError(f"--labels {text}: cannot be read ({error})", hint="a UTF-8 file, one label a line") from error
    labels = tuple(word.strip() for word in words if word.strip())
    twice = [label for number, label in enumerate(labels) if label in labels[:number]]
    if twice:
        raise UsageError(f"--labels: {twice[0]!r} is there twice", hint="name each label once")
    if len(labels) < 2:
        raise UsageError(
            f"--labels {text!r}: {len(labels)} label", hint="at least two, as dog,siren,rain, or a file, one a line"
        )
    return labels


def classify(
    run: str,
    audio: Sequence[str | Path],
    labels: Sequence[str],
    *,
    prompts: Sequence[str] = (PROMPT,),
    checkpoint: str = "last",
    device: str | None = None,
    out: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Classification:
    """Find the label whose sentence each clip is most similar to.

    Args:
        run: a run folder with an objective that shares a space with captions (``clap``).
        audio: files, folders or manifests.
        labels: class names.
        prompts: sentences made of a label, which takes the place of ``{}``; cosines of several are averaged.
        checkpoint: ``last``, ``best`` or ``step-NUMBER``.
        device: where to compute; CUDA where there is one unless given.
        out: CSV file to write: path, start and a column for each label; it replaces what is there.
        progress: called with the number of clips done and their total.

    Raises:
        UsageError: the run has no such objective, a prompt has no place for the label, or ``out`` cannot be written.
        AudioError: no clip could be read.
        DataError: the text encoder cannot be loaded.
    """
    for prompt in prompts:
        if "{}" not in prompt:
            raise UsageError(f"--prompt {prompt!r} has no {{}} for the label", hint=f"for example {PROMPT!r}")
    if out is not None and not out.absolute().parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.absolute().parent}", hint="make it first")
    encoder = load_encoder(run, checkpoint=checkpoint, device=named_device(device))
    if not isinstance(encoder, CaptionedEncoder):
        raise UsageError(
            f"{run}: was not trained beside captions",
            hint="classify needs a run with an objective clap, such as of the recipe m2d-clap-small",
        )
    sentences = [prompt.replace("{}", label) for prompt in prompts for label in labels]
    clips, rows, skipped = gather_clips(audio), [], []
    done: list[Clip] = []
    for number, clip in enumerate(clips, start=1):
        try:
            waveform = read(clip.path, encoder.sample_rate, start=clip.start, duration=clip.duration)
        except AudioError as error:
            skipped.append(error.message)
        else:
            cosines = encoder.match_captions(torch.from_numpy(waveform), sentences)[0].cpu()  # [prompts * labels]
            rows.append(cosines.unflatten(0, (len(prompts), len(labels))).mean(dim=0))  # [labels]
            done.append(clip)
        progress(number, len(clips))
    if not rows:
        raise AudioError(itemise("none of the files could be read:", skipped), hint="give wav, flac, ogg or mp3 files")
    cosines = torch.stack(rows)  # [clips, labels]
    probabilities = (encoder.similarity_scale() * cosines).softmax(dim=1)
    found = Classification(tuple(labels), tuple(done), probabilities, cosines, skipped)
    if out is not None:
        _write(out, found)
    return found


def _write(out: Path, found: Classification) -> None:
    """Write probabilities as CSV."""
    try:
        with (
            written_aside(out) as aside,
            aside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["path", "start", *found.labels])
            for clip, row in zip(found.clips, found.probabilities.tolist(), strict=True):
                writer.writerow([clip.path, f"{clip.start:g}", *(f"{value:.6f}" for value in row)])
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error})", hint="choose another place") from error

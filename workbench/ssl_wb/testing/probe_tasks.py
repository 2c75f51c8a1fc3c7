"""Small probe tasks and a small encoder for the checks of evaluators, and for tests of one's own."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.plugin.backbone import Backbone
from ssl_wb.plugin.evaluator import Level, ProbeTask, Split
from ssl_wb.plugin.front_end import FrontEnd
from ssl_wb.plugin.registry import load_registry

__all__ = ["KINDS_OF_LABELS", "LabelKind", "tiny_encoder", "tiny_task"]

LabelKind = Literal["single", "several", "number"]
KINDS_OF_LABELS: tuple[LabelKind, ...] = get_args(LabelKind)

#: Clips, classes, width, blocks, frames; samples and rate of a waveform.
CLIPS, CLASSES, DIM, BLOCKS, FRAMES = 60, 3, 6, 3, 5
SAMPLES, RATE = 4800, 16000


def tiny_encoder() -> FrozenEncoder:
    """Return a frozen encoder with random weights: log-mel spectrograms and a ViT of two blocks."""
    registry = load_registry()
    front_end, backbone = registry.get("front-end", "log-mel"), registry.get("backbone", "vit")
    options = backbone.Options.model_validate({"dim": 16, "depth": 2, "heads": 2, "drop_path": 0.0})
    torch.manual_seed(0)
    made = cast(Any, backbone)(options, 80, 32)
    assert isinstance(made, Backbone)
    spectrograms = cast(Any, front_end)(front_end.Options())
    assert isinstance(spectrograms, FrontEnd)
    return FrozenEncoder(spectrograms, made, 32)


def tiny_task(level: Level = "clip", labels: LabelKind = "single", folds: int = 1) -> ProbeTask:
    """Return a task of 60 clips whose embeddings tell the labels, with some noise.

    Args:
        level: what the embeddings are of; with ``audio`` the task has an encoder and waveforms.
        labels: one of 3 classes per clip, several, or a number.
        folds: splits, 1 or 2.
    """
    random = np.random.default_rng(0)
    classes = np.arange(CLIPS) % CLASSES
    centres = random.normal(size=(CLASSES, DIM))
    embeddings = (centres[classes] + 0.7 * random.normal(size=(CLIPS, DIM))).astype(np.float32)  # [clips, D]
    frames = None
    if level == "layers":
        embeddings = np.stack([embeddings * (1 + layer) for layer in range(BLOCKS)], axis=1)  # [clips, L, D]
    elif level == "frames":
        embeddings = np.repeat(embeddings[:, None], FRAMES, axis=1)  # [clips, T, D]
        frames = np.full(CLIPS, FRAMES)
    elif level == "audio":
        embeddings = np.zeros((CLIPS, 0), dtype=np.float32)
    embeddings.flags.writeable = False
    return ProbeTask(
        name="tiny",
        embeddings=embeddings,
        labels=_labels(classes, labels, random),
        classes=["number"] if labels == "number" else [f"class {number}" for number in range(CLASSES)],
        splits=[_split(fold) for fold in range(folds)],
        frames=frames,
        encoder=tiny_encoder() if level == "audio" else None,
        read=(lambda index: _tone(int(classes[index]), index)) if level == "audio" else None,
    )


def _labels(classes: NDArray[Any], kind: LabelKind, random: np.random.Generator) -> NDArray[Any]:
    """Return labels of a kind for clips of so many classes."""
    if kind == "single":
        return classes.astype(np.int64)
    if kind == "number":
        return classes + 0.1 * random.normal(size=CLIPS)
    several = np.eye(CLASSES, dtype=np.float32)[classes]
    several[::4, 0] = 1.0
    return several


def _split(fold: int) -> Split:
    """Return one of two folds: half of the clips is tested, a tenth validates, all classes are in each part."""
    rows = np.arange(CLIPS)
    half = rows // (CLIPS // 2) == fold
    rest = rows[~half]
    return Split(f"fold {fold + 1}", rest[6:], rest[:6], rows[half])


def _tone(label: int, seed: int) -> NDArray[np.float32]:
    """Return a waveform ``[S]`` whose pitch tells its class."""
    time = np.arange(SAMPLES) / RATE
    noise = np.random.default_rng(seed).normal(size=SAMPLES)
    return (0.3 * np.sin(2 * np.pi * 400.0 * (1 + label) * time) + 0.01 * noise).astype(np.float32)

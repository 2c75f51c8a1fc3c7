"""Small probe tasks whose answers are known."""

from __future__ import annotations

import numpy as np

from ssl_wb.api import ProbeTask, Split


def blobs(clips=240, dim=16, classes=4, spread=1.0, seed=0, *, held_out=False, splits=1):
    """Gaussian blobs, one per class; half trains, a tenth validates, the rest is tested."""
    random = np.random.default_rng(seed)
    labels = np.arange(clips) % classes
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    embeddings = (centres[labels] + spread * random.normal(size=(clips, dim))).astype(np.float32)
    return ProbeTask(
        "blobs",
        embeddings,
        labels.astype(np.int64),
        [f"class {index}" for index in range(classes)],
        [_split(clips, number, random, held_out=held_out) for number in range(splits)],
    )


def several(clips=300, dim=12, classes=5, seed=0):
    """Clips with several labels, each read off one direction with some noise."""
    random = np.random.default_rng(seed)
    embeddings = random.normal(size=(clips, dim)).astype(np.float32)
    directions = np.random.default_rng(98).normal(size=(dim, classes))
    noise = random.normal(size=(clips, classes))
    labels = (embeddings @ directions + noise > 1.5).astype(np.float32)
    return ProbeTask("several", embeddings, labels, list("abcde")[:classes], [_split(clips, 0, random, held_out=False)])


def _split(clips, number, random, *, held_out):
    rows = random.permutation(clips)
    train, validation, test = np.split(rows, [clips // 2, clips // 2 + clips // 10])
    parts = (np.sort(part) for part in (train, validation, test))
    return Split(f"split {number}", *parts, held_out=held_out)

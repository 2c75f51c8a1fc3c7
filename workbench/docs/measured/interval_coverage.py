"""Coverage of the 95 % intervals by simulation: ``python interval_coverage.py [TRIALS] > interval-coverage.md``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_wb.scoring.metrics import METRICS
from ssl_wb.scoring.summary import bootstrap, interval_of, score_interval

Drawn = tuple[NDArray[Any], NDArray[Any]]  # labels, scores [n, classes]


def several(clips: int, classes: int, positives: int, signal: float, random: np.random.Generator) -> Drawn:
    """Draw clips with about ``positives`` per class."""
    labels = (random.random((clips, classes)) < positives / clips).astype(float)
    return labels, random.normal(size=labels.shape) + signal * labels


def single(clips: int, classes: int, signal: float, random: np.random.Generator) -> Drawn:
    """Draw clips of one class each."""
    labels = random.integers(0, classes, clips)
    return labels, random.normal(size=(clips, classes)) + signal * np.eye(classes)[labels]


def queries(clips: int, random: np.random.Generator) -> Drawn:
    """Draw average precisions of queries, of which retrieval's score is the mean; as numbers."""
    return random.beta(1.2, 1.0, clips), np.zeros((clips, 1))


def mean_of(labels: NDArray[Any], scores: NDArray[Any], weights: NDArray[Any] | None) -> NDArray[Any]:
    """Return retrieval's mean over queries."""
    del scores
    return np.array([labels.mean()]) if weights is None else weights @ labels / weights.sum(axis=1)


DESIGNS: tuple[tuple[str, str, Callable[[np.random.Generator], Drawn]], ...] = (
    ("mAP", "300 clips, 20 classes, 5 positives", partial(several, 300, 20, 5, 2.0)),
    ("macro AUC", "300 clips, 20 classes, 5 positives", partial(several, 300, 20, 5, 1.0)),
    ("macro F1", "120 clips, 6 classes", partial(single, 120, 6, 1.5)),
    ("EER", "120 clips, 2 classes", partial(single, 120, 2, 1.0)),
    ("EER", "200 clips, 10 classes, 30 positives", partial(several, 200, 10, 30, 1.0)),
    ("accuracy", "100 clips, 5 classes", partial(single, 100, 5, 1.5)),
    ("retrieval", "80 queries", partial(queries, 80)),
)


def main(trials: int) -> None:
    """Print the table."""
    lines = ["| metric | design | score in its interval | truth in the interval | percentile interval |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for name, design, draw in DESIGNS:
        random = np.random.default_rng(2)
        value = METRICS[name].value if name in METRICS else mean_of
        # As many resamples as evaluators draw by default: fewer for a metric that sorts.
        resamples = 200 if name in METRICS and METRICS[name].sorts else 1000
        truth = float(np.mean([value(*draw(random), None)[0] for _ in range(400)]))
        held = inside = plain = 0
        for _ in range(trials):
            labels, scores = draw(random)
            score = float(value(labels, scores, None)[0])
            draws = bootstrap(partial(value, labels, scores), len(labels), resamples, 0)
            low, high = lowest, highest = interval_of(draws)
            if name in METRICS:
                low, high = score_interval(draws, score, METRICS[name], [labels])
            held += low <= score <= high
            inside += low <= truth <= high
            plain += lowest <= truth <= highest
        shares = " | ".join(f"{100 * count / trials:.1f}" for count in (held, inside, plain))
        lines.append(f"| {name} | {design} | {shares} |")
    print("# Coverage of the 95 % intervals\n")  # noqa: T201
    print(f"Per cent of {trials} simulated test parts; made by `interval_coverage.py {trials}`.\n")  # noqa: T201
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)

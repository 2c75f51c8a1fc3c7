"""Scores of test clips in a run folder, so that runs can be compared clip by clip long after they were probed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_wb.errors import DataError
from ssl_wb.evaluation.results import Row
from ssl_wb.files import written_aside
from ssl_wb.scoring.clip_scores import ClipScores, clip_scores

__all__ = ["read_scores", "write_scores"]

#: Version of the file's layout.
VERSION = 1


def write_scores(path: Path, rows: Sequence[Row]) -> None:
    """Write the scores of every test clip of some results.

    Args:
        path: file to write, ``.npz``.
        rows: results; those without scores per clip are left out.
    """
    index: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for row in rows:
        kept = clip_scores(row.result)
        if kept is None:
            continue
        number = len(index)
        index.append({"task": row.task, "evaluator": row.evaluator, "metric": kept.metric, "splits": len(kept.labels)})
        for split, (clips, labels, scores) in enumerate(zip(kept.clips, kept.labels, kept.scores, strict=True)):
            arrays |= {
                f"{number}/{split}/clips": clips,
                f"{number}/{split}/labels": labels,
                f"{number}/{split}/scores": scores,
            }
    with written_aside(path) as aside:
        head = np.frombuffer(json.dumps({"version": VERSION, "results": index}).encode(), dtype=np.uint8)
        with aside.open("wb") as file:
            np.savez_compressed(file, index=head, **arrays)


def read_scores(path: Path) -> dict[tuple[str, str], ClipScores]:
    """Read what :func:`write_scores` wrote, by task and evaluator; nothing where there is no file.

    Raises:
        DataError: the file cannot be read.
    """
    if not path.is_file():
        return {}
    found = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            head = json.loads(archive["index"].tobytes())
            for number, one in enumerate(head["results"]):
                clips, labels, scores = (
                    tuple(archive[f"{number}/{split}/{what}"] for split in range(one["splits"]))
                    for what in ("clips", "labels", "scores")
                )
                found[one["task"], one["evaluator"]] = ClipScores(one["metric"], clips, labels, scores)
    except Exception as error:  # a damaged archive raises what it likes
        raise DataError(
            f"{path}: cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})",
            hint="remove it; the run's next probing writes it anew",
        ) from error
    return found

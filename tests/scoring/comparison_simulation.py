"""Constructed runs: cells whose true scores are known, tested on the same clips, over several pre-training seeds."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from ssl_wb.evaluation.run_results import RunCell, RunResults
from ssl_wb.scoring.clip_scores import ClipScores

#: Deviations in logits: of a clip's difficulty, of a pre-training's quality, of both together; and probe seeds.
CLIP, SEED, BOTH, PROBES = 1.5, 0.08, 0.8, 3
#: Share of clips whose answer another probe seed changes.
FLIPPED = 0.02


@cache
def curve():
    """Return levels in logits and the accuracy that each gives over clips, pre-trainings and their products."""
    grid = np.linspace(-3, 5, 161)
    noise = np.random.default_rng(0).normal(size=4000) * np.sqrt(CLIP**2 + BOTH**2 + SEED**2)
    right = np.array([(1 / (1 + np.exp(-(level + noise)))).mean() for level in grid])
    return grid, right * (1 - 2 * FLIPPED) + FLIPPED


def level_of(score):
    """Return the level in logits at which the accuracy is a score."""
    grid, right = curve()
    return float(np.interp(score, right, grid))


def runs(scores, seeds, clips, random, tasks=1, path="constructed"):
    """Draw cells of runs: accuracies of ``scores`` on average, on tasks of ``clips`` test clips each.

    Args:
        scores: true accuracy of each cell.
        seeds: pre-training seeds of each cell.
        clips: test clips of each task.
        random: numpy's generator.
        tasks: number of tasks.
        path: folder that the runs pretend to be in.
    """
    levels = [level_of(score) for score in scores]
    difficulty = [random.normal(size=clips) * CLIP for _ in range(tasks)]
    cells = []
    for number, level in enumerate(levels):
        by_seed = {}
        for seed in range(seeds):
            rows, kept = [], {}
            quality = random.normal() * SEED
            for task in range(tasks):
                own = level + quality + difficulty[task] + random.normal(size=clips) * BOTH
                right = random.random(clips) < 1 / (1 + np.exp(-own))  # [clips]
                right = right ^ (random.random((PROBES, clips)) < FLIPPED)  # [PROBES, clips]
                one = ClipScores("accuracy", (np.arange(clips),), (np.zeros(clips, dtype=int),), (right,))
                per_seed = [float(value) for value in one.by_seed()]
                rows.append(
                    {
                        "task": f"task {task}",
                        "evaluator": "linear",
                        "metric": "accuracy",
                        "mean": float(np.mean(per_seed)),
                        "per_seed": per_seed,
                        "chance": 0.1,
                    }
                )
                kept[f"task {task}", "linear"] = one
            by_seed[seed] = RunResults(Path(path) / f"{number}_seed={seed}", seed, {"masker.name": number}, rows, kept)
        cells.append(RunCell(f"cell {number}", by_seed))
    return cells

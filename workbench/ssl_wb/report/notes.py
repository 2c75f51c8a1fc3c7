"""What stands below a table of results, and how each row was pooled."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_wb.evaluation.compare import averaged
from ssl_wb.evaluation.results import Row

__all__ = ["notes_of", "pools_of"]


def pools_of(rows: Sequence[Row]) -> dict[str, str]:
    """Return how each encoder's frames were pooled; nothing where all have the mean over time, or no pooling."""
    found: dict[str, list[str]] = {row.encoder: [] for row in rows}
    for row in rows:
        if row.pool is not None:
            found[row.encoder] += row.pool.removeprefix("auto: ").split(", ")
    auto = {row.encoder for row in rows if row.pool is not None and row.pool.startswith("auto: ")}
    pools = {encoder: ", ".join(dict.fromkeys(each)) for encoder, each in found.items()}
    pools = {encoder: f"auto ({pool})" if encoder in auto else pool for encoder, pool in pools.items()}
    return {} if set(pools.values()) <= {"", "mean"} else pools


def notes_of(rows: Sequence[Row]) -> list[str]:
    """Return what a reader has to know, each thing once."""
    seeds = max((len(row.result.per_seed) for row in rows), default=0)
    spread = f"{seeds} probe seeds ± their standard deviation" if seeds > 1 else "1 probe seed"
    notes = [f"Per cent, mean over {spread}; in brackets the 95 % interval over test clips."]
    plain = list(dict.fromkeys(row.result.metric for row in rows if not row.result.percent))
    falling = list(dict.fromkeys(row.result.metric for row in rows if not row.result.higher))
    if plain:
        notes.append(f"Not in per cent: {', '.join(plain)}.")
    if falling:
        notes.append(f"Less is better: {', '.join(falling)}.")
    for evaluator in dict.fromkeys(row.evaluator for row in rows):
        tasks = {row.task for row in rows if row.evaluator == evaluator}
        left = sorted(tasks - set(averaged(rows, evaluator))) if averaged(rows, evaluator) else []
        if left:
            notes.append(f"Not in the average of {evaluator}: {', '.join(left)}.")
    pools = {row.pool for row in rows if row.pool is not None}
    if pools == {"mean"}:
        notes.append("An embedding of a clip is the mean over its frames.")
    elif len(pools) > 1 and not any(pool.startswith("auto") for pool in pools):
        notes.append(
            "Rows differ in how frames are pooled: compare like with like with --pool auto or --pool mean+std."
        )
    for row in rows:
        notes += [f"{row.task}: {note}" for note in row.result.notes]
    return list(dict.fromkeys(notes))

"""Values that change with the step."""

from __future__ import annotations

import math

__all__ = ["warmup_cosine"]


def warmup_cosine(step: int, steps: int, warmup: int, *, peak: float, last: float) -> float:
    """Value at ``step`` (0-based): a line up to ``peak`` over the warm-up, then half a cosine down to ``last``.

    Args:
        step: steps done before this one.
        steps: steps of the run, where the cosine ends.
        warmup: steps of the line.
        peak: largest value.
        last: value at ``steps`` and after.
    """
    if step < warmup:
        # Counted from 1: from 0, the first update would have a learning rate of 0.
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return last + (peak - last) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))

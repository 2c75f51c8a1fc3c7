"""Warns during training when metrics indicate collapse."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ssl_wb.plugin.objective import HealthRule

__all__ = ["HealthMonitor"]

#: Measured steps in a row before a rule fires: one bad batch is not a collapse.
PATIENCE = 3
#: Steps during which a rule with ``after`` is not checked, at least: classes and hypotheses separate slowly, in short
#: runs too.
SETTLING = 200


class HealthMonitor:
    """Checks the rules at each measured step.

    The counts are part of a checkpoint, so that a resumed run warns at the same step as an uninterrupted one.
    """

    def __init__(self, rules: Sequence[HealthRule]) -> None:
        self.rules = list(rules)
        self.counts = [0] * len(self.rules)

    def check(self, metrics: Mapping[str, float], step: int, steps: int) -> list[str]:
        """Return a sentence for each rule that starts to fire at this step.

        Args:
            metrics: figures of the step.
            step: optimiser steps done.
            steps: optimiser steps of the run.
        """
        messages = []
        for number, rule in enumerate(self.rules):
            value = metrics.get(rule.metric)
            early = rule.after > 0.0 and step < max(SETTLING, rule.after * steps)
            if value is None or math.isnan(value) or early:
                continue
            low = rule.below is not None and value < rule.below
            high = rule.above is not None and value > rule.above
            self.counts[number] = self.counts[number] + 1 if low or high else 0
            if self.counts[number] == PATIENCE:
                limit = f"below {rule.below:g}" if low else f"above {rule.above:g}"
                messages.append(f"{rule.metric} = {value:.4g}, {limit}: {rule.meaning}")
        return messages

    def ailing(self) -> list[str]:
        """Return the metrics whose rules fire now."""
        return [rule.metric for rule, count in zip(self.rules, self.counts, strict=True) if count >= PATIENCE]

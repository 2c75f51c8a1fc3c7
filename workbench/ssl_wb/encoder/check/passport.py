"""All checks of one encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ssl_wb.encoder.check.edges import EDGES
from ssl_wb.encoder.check.invariance import INVARIANCE
from ssl_wb.encoder.check.sounds import voices
from ssl_wb.encoder.check.subject import Check, Row, Subject, Verdict, told
from ssl_wb.encoder.check.timing import TIMING
from ssl_wb.plugin.evaluator import Encoder

__all__ = ["CHECKS", "Passport", "check_encoder"]

#: Every row, in the order of the passport.
CHECKS: tuple[Check, ...] = (*INVARIANCE, *EDGES, *TIMING)
#: Length of the synthetic test clips in seconds.
SECONDS = 4.0


@dataclass(frozen=True)
class Passport:
    """What was found about one encoder.

    Attributes:
        encoder: its name.
        facts: what it says of itself, and what it was checked with.
        rows: one per check.
    """

    encoder: str
    facts: dict[str, Any]
    rows: tuple[Row, ...] = field(default=())

    @property
    def faults(self) -> int:
        """Number of rows with a fault."""
        return sum(row.verdict is Verdict.FAULT for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """Return the passport as JSON-able values."""
        return {"encoder": self.encoder, **self.facts, "faults": self.faults, "rows": [r.as_json() for r in self.rows]}


def check_encoder(
    encoder: Encoder,
    name: str,
    *,
    clips: Tensor | None = None,
    longest: float = 60.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Passport:
    """Measure what the embeddings of an encoder depend on besides the sound.

    A check that fails is a row like any other: the encoder's error is its text.

    Args:
        encoder: any encoder.
        name: how the passport calls it.
        clips: ``[B, S]`` at the encoder's sample rate, B at least 2; four synthetic ones of 4 s unless given.
        longest: seconds of the longest clip it is given.
        progress: called with the number of checks done and their total.

    Raises:
        WorkbenchError: the encoder cannot embed the clips at all.
    """
    given = clips is not None
    clips = voices(SECONDS, encoder.sample_rate) if clips is None else clips
    subject = Subject(encoder, clips, longest)
    rows: list[Row] = []
    for number, check in enumerate(CHECKS):
        progress(number, len(CHECKS))
        try:
            rows.append(check(subject))
        except Exception as error:  # whatever an encoder raises is what is to be told
            what = (check.__doc__ or "").split(":")[0].rstrip(".").lower()
            rows.append(Row(what, told(error), Verdict.FAULT, "the encoder cannot do this"))
    progress(len(CHECKS), len(CHECKS))
    facts = {
        "sample_rate": encoder.sample_rate,
        "width": subject.base.shape[1],
        "hop_seconds": subject.hop,
        "clips": f"{len(clips)} of {clips.shape[1] / encoder.sample_rate:.3g} s, "
        + ("given" if given else "synthetic voices"),
        "torch": torch.__version__,
    }
    return Passport(name, facts, tuple(rows))

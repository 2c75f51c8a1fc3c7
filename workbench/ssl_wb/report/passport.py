"""The passport of an encoder as a table and in Markdown."""

from __future__ import annotations

from ssl_wb.encoder.check.passport import Passport

__all__ = ["COLUMNS", "cells", "facts", "passport_markdown"]

#: Headings of the table.
COLUMNS = ("check", "verdict", "measured", "what it means")


def cells(passport: Passport) -> list[tuple[str, str, str, str]]:
    """Return the texts of each row."""
    return [(row.check, row.verdict.value, row.measured, row.meaning) for row in passport.rows]


def facts(passport: Passport) -> str:
    """Return what an encoder says of itself, in one line."""
    known = passport.facts
    hop = f"a frame every {1000 * known['hop_seconds']:g} ms" if known["hop_seconds"] else "no frames in time"
    return f"{known['sample_rate']} Hz, {known['width']} values per clip, {hop}; checked with {known['clips']}"


def passport_markdown(passport: Passport) -> str:
    """Return the passport in Markdown, as for a model card."""
    head = [f"## What `{passport.encoder}` depends on", "", f"{facts(passport)[:1].upper()}{facts(passport)[1:]}.", ""]
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for row in cells(passport):
        lines.append(f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |")
    closing = "Distances are shares of the mean distance between two of the test clips."
    return "\n".join([*head, *lines, "", closing])

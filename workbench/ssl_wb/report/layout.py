"""A table as text, before it is drawn or written."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """A table as text.

    Attributes:
        columns: headings, the first one for the encoders' names.
        rows: cells of each row.
        notes: lines below the table.
        groups: the domain of each column, "" for none; empty where no column has one.
    """

    columns: list[str]
    rows: list[list[str]]
    notes: list[str]
    groups: list[str] = field(default_factory=list)

    def group_headings(self) -> list[str]:
        """Return what stands above each column: its domain where that begins, else nothing."""
        return [
            "" if number and group == self.groups[number - 1] else group for number, group in enumerate(self.groups)
        ]

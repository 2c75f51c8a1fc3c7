"""A table of texts, before it is printed or written."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """A table of texts.

    Attributes:
        columns: headings, the first one for the encoders' names.
        rows: cells of each row.
        notes: lines below the table.
        groups: domain of each column, "" for none; an empty list if no column has one.
    """

    columns: list[str]
    rows: list[list[str]]
    notes: list[str]
    groups: list[str] = field(default_factory=list)

    def group_headings(self) -> list[str]:
        """Return the line above the columns: a domain above the first of its columns, else nothing."""
        return [
            "" if number and group == self.groups[number - 1] else group for number, group in enumerate(self.groups)
        ]

"""A table as LaTeX, for papers: the packages ``booktabs`` and nothing else."""

from __future__ import annotations

import re

from ssl_wb.report.layout import Layout

__all__ = ["latex"]

_ESCAPES = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": "$<$",
    ">": "$>$",
}


def latex(layout: Layout) -> str:
    """Return a table as a ``tabular`` with rules of ``booktabs``, its notes as comments."""
    lines = [f"% {note}" for note in layout.notes]
    lines.append(rf"\begin{{tabular}}{{l{'r' * (len(layout.columns) - 1)}}}")
    lines += [r"\toprule", _line(layout.columns), r"\midrule", *map(_line, layout.rows), r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}"])


def _line(cells: list[str]) -> str:
    return " & ".join(_escape(cell) for cell in cells) + r" \\"


def _escape(text: str) -> str:
    whole = "".join(_ESCAPES.get(letter, letter) for letter in text)
    # Marks stand above the line, as in tables of papers.
    return re.sub(r" (\*|=)(?= |$)", lambda match: f"$^{{{match[1]}}}$", whole)

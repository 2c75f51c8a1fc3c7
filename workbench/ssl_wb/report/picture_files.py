"""Writing pictures, and the colours they share.

Pictures are drawn with matplotlib's objects, not with pyplot: its state belongs to the caller. matplotlib is imported
when a picture is drawn, because the import takes a second.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssl_wb.errors import UsageError
from ssl_wb.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DPI", "ENDINGS", "FAINT", "INK", "check_picture", "save_picture"]

ENDINGS = (".png", ".pdf", ".svg")
#: Pixels per inch. Pages show a picture of 9 inches about 900 pixels wide; this is sharp on dense screens too.
DPI = 180
#: Colours of text, and of axes and notes.
INK, FAINT = "#1f2328", "#656d76"


def check_picture(out: Path, *, overwrite: bool) -> None:
    """Check that a picture can be written, before the work starts.

    Raises:
        UsageError: another ending, or a file that is already there.
    """
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(
            f"{out}: cannot draw {out.suffix or 'a file without ending'}", hint=f"end it in {', '.join(ENDINGS)}"
        )
    if out.is_dir():
        raise UsageError(f"{out} is a folder", hint="name a file")
    if out.exists() and not overwrite:
        raise UsageError(f"{out} is already there", hint="--overwrite replaces it")


def save_picture(figure: Figure, out: Path) -> None:
    """Write a picture, whole or not at all, in the format of the ending.

    Raises:
        UsageError: the file cannot be written.
    """
    from matplotlib import rc_context

    ending = out.suffix.lower().removeprefix(".")
    drawn = io.BytesIO()
    # No date and no random element names: the same picture gives the same file.
    metadata: dict[str, Any] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(ending, {})
    with rc_context({"svg.hashsalt": "ssl-wb"}):
        figure.savefig(drawn, format=ending, dpi=DPI, metadata=metadata)
    try:
        write_atomically(out, _fewer_colours(drawn) if ending == "png" else drawn.getvalue())
    except OSError as failure:
        raise UsageError(f"cannot write {out}: {failure.strerror or failure}", hint="name another file") from None


def _fewer_colours(drawn: io.BytesIO) -> bytes:
    """Reduce a PNG to 256 colours: a third of the bytes, and enough for two colour maps."""
    from PIL import Image  # a dependency of matplotlib

    smaller = io.BytesIO()
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(smaller, format="png", optimize=True)
    return smaller.getvalue()

"""Encoders from elsewhere in the shape of ours, each named by a word, a colon and what it takes to find it.

``hear:MODULE[:WEIGHTS]``, ``xares:FILE.py[:CLASS]``, ``hf:NAME_OR_PATH`` and ``python:MODULE:FUNCTION``. They run the
code that they name, as an import does.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ssl_wb.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    import torch

    from ssl_wb.encoder.encoder import FrozenEncoder
    from ssl_wb.encoder.external.base import ExternalEncoder

__all__ = ["FORMS", "check_external", "is_external", "load_external"]

#: How each kind is written.
FORMS = {
    "hear": "hear:MODULE[:WEIGHTS]",
    "xares": "xares:FILE.py[:CLASS]",
    "hf": "hf:NAME_OR_PATH",
    "python": "python:MODULE:FUNCTION",
}
HINT = f"Give a run folder, or one of {', '.join(FORMS.values())}."


def is_external(source: str | Path) -> bool:
    """Whether an encoder is from elsewhere and no run folder (a folder named so is meant by ``./hear:x``).

    Raises:
        UsageError: it looks like an encoder from elsewhere, of no kind there is.
    """
    text = str(source)
    kind, colon, _ = text.partition(":")
    if not colon or kind in FORMS:
        return bool(colon)
    # One letter is a drive; a folder may have a colon in its name.
    if re.fullmatch(r"[A-Za-z][\w+-]+", kind) and not Path(text).exists():
        raise UsageError(f"{text}: {kind!r} is no kind of encoder{did_you_mean(kind, FORMS)}", hint=HINT)
    return False


def check_external(source: str) -> None:
    """Refuse what cannot be loaded, as far as that is known without running its code.

    Args:
        source: an encoder from elsewhere, as :func:`is_external` says.

    Raises:
        UsageError: parts are missing, or there is no such module, file or library.
    """
    from ssl_wb.encoder.external.module_import import find_module

    kind, first, second = _parts(source)
    if kind == "hf":
        from ssl_wb.encoder.external.huggingface import require_transformers

        require_transformers(source)
    else:
        find_module(first, source)
    if kind == "hear" and second is not None and not Path(second).expanduser().exists():
        raise UsageError(f"{source}: no such file: {second!r}", hint="WEIGHTS is the file of the model's weights.")


def load_external(source: str, device: str | torch.device = "cpu") -> ExternalEncoder | FrozenEncoder:
    """Load an encoder from elsewhere.

    Args:
        source: as :func:`is_external` says.
        device: where it computes, as far as it lets itself be told.

    Raises:
        UsageError: it cannot be found or loaded, or lacks what its kind has to have.
        DataError: it embeds a plain tone in a wrong shape, or as values that are not finite.
    """
    kind, first, second = _parts(source)
    if kind == "hear":
        from ssl_wb.encoder.external.hear import load_hear

        return load_hear(source, first, second, device)
    if kind == "xares":
        from ssl_wb.encoder.external.xares import load_xares

        return load_xares(source, first, second, device)
    if kind == "hf":
        from ssl_wb.encoder.external.huggingface import load_huggingface

        return load_huggingface(source, first, device)
    from ssl_wb.encoder.external.python_object import load_python_object

    assert second is not None
    return load_python_object(source, first, second)


def _parts(source: str) -> tuple[str, str, str | None]:
    """Split ``kind:first[:second]``; a path may hold a drive's colon."""
    kind, _, rest = source.partition(":")
    first, second = rest, ""
    if kind == "hear":
        first, _, second = rest.partition(":")
    elif kind == "xares":
        head, _, tail = rest.rpartition(":")
        if tail.isidentifier() and head:
            first, second = head, tail
    elif kind == "python":
        first, _, second = rest.rpartition(":")
    if not first or (kind == "python" and not second.isidentifier()):
        raise UsageError(f"{source}: expected {FORMS[kind]}", hint=HINT)
    return kind, first, second or None

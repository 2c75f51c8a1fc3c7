"""External encoders, with the interface of our own: named as ``kind:where``, found, checked and loaded.

The kinds are ``hear:MODULE[:WEIGHTS]``, ``xares:FILE.py[:CLASS]``, ``hf:NAME_OR_PATH`` and ``python:MODULE:FUNCTION``.
All but ``hf:`` run the code they name, as an import does. ``hf://OWNER/NAME`` is a published checkpoint or an encoder
folder on the hub, which is read as :func:`ssl_wb.load_encoder` does.
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

__all__ = ["FORMS", "check_external", "is_external", "load_external", "needs_adapter"]

#: Syntax of each kind.
FORMS = {
    "hear": "hear:MODULE[:WEIGHTS]",
    "xares": "xares:FILE.py[:CLASS]",
    "hf": "hf:NAME_OR_PATH",
    "python": "python:MODULE:FUNCTION",
}
HINT = f"Give a run folder, or one of {', '.join(FORMS.values())}."


def is_external(source: str | Path) -> bool:
    """Whether ``source`` names an external encoder and not a run folder (``./hear:x`` is a folder of that name).

    Raises:
        UsageError: it looks like an external encoder of an unknown kind.
    """
    text = str(source)
    kind, colon, _ = text.partition(":")
    if not colon or kind in FORMS:
        return bool(colon)
    # One letter is a Windows drive, as in C:\runs; and the name of a folder may contain a colon.
    if re.fullmatch(r"[A-Za-z][\w+-]+", kind) and not Path(text).exists():
        raise UsageError(f"{text}: {kind!r} is no kind of encoder{did_you_mean(kind, FORMS)}", hint=HINT)
    return False


def needs_adapter(source: str) -> bool:
    """Whether ``source`` is wrapped by an adapter: external, and no encoder on the hub, which is read as our own.

    Raises:
        UsageError: as :func:`is_external`.
    """
    from ssl_wb.encoder.importing.hub import is_hub

    return is_external(source) and not is_hub(source)


def check_external(source: str) -> None:
    """Check that an external encoder can be loaded, as far as that is possible without running its code.

    Args:
        source: an external encoder; see :func:`is_external`.

    Raises:
        UsageError: parts are missing, or there is no such module, file or library.
    """
    from ssl_wb.encoder.external.module_import import find_module
    from ssl_wb.encoder.importing.hub import hub_place, is_hub

    if is_hub(source):
        hub_place(source)
        return
    kind, first, second = _parts(source)
    if kind == "hf":
        from ssl_wb.encoder.external.huggingface import require_transformers

        require_transformers(source)
    else:
        find_module(first, source)
    if kind == "hear" and second is not None and not Path(second).expanduser().exists():
        raise UsageError(f"{source}: no such file: {second!r}", hint="WEIGHTS is the file of the model's weights.")


def load_external(
    source: str, device: str | torch.device = "cpu", embedding: str = "published"
) -> ExternalEncoder | FrozenEncoder:
    """Load an external encoder.

    Args:
        source: as for :func:`is_external`.
        device: where it computes; a ``python:`` encoder chooses its own device.
        embedding: of a clip, by an encoder from the hub; others have one of their own.

    Raises:
        UsageError: it cannot be found or loaded, or lacks a method or attribute that its kind requires.
        DataError: its embedding of a test tone has a wrong shape or is not finite.
    """
    from ssl_wb.encoder.external.base import ExternalEncoder

    encoder = _load(source, device, embedding)
    if isinstance(encoder, ExternalEncoder):
        encoder.try_out()
    return encoder


def _load(source: str, device: str | torch.device, embedding: str) -> ExternalEncoder | FrozenEncoder:
    if source.startswith("hf://"):
        from ssl_wb.encoder.load import load_encoder

        return load_encoder(source, embedding=embedding, device=device)
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
    """Split ``kind:first[:second]``; a path may contain a colon itself."""
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

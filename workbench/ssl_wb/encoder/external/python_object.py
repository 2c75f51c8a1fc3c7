"""External encoders made by a Python function of the user."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.external.base import ExternalEncoder, sample_rate_of
from ssl_wb.encoder.external.module_import import call_external, import_module
from ssl_wb.errors import UsageError, did_you_mean

__all__ = ["LayeredPythonEncoder", "PythonEncoder", "load_python_object"]


class PythonEncoder(ExternalEncoder):
    """Wraps an object with ``sample_rate``, ``embed_clip`` and ``embed_frames``.

    Args:
        source: as the user named it.
        encoder: the object; its ``hop_seconds`` is used if it has one, else the hop is measured.
    """

    def __init__(self, source: str, encoder: Any) -> None:
        super().__init__(source, sample_rate_of(encoder, "sample_rate", source))
        self._encoder = encoder
        hop = getattr(encoder, "hop_seconds", None)
        if isinstance(hop, (int, float)) and hop > 0:
            self.hop_seconds = float(hop)

    def whole_clips(self, waveform: Tensor) -> Tensor:
        """Embed clips of one length, ``[n, S]``, as ``[n, D]``."""
        return self._embed("embed_clip", waveform, "n D")

    def whole_frames(self, waveform: Tensor) -> Tensor:
        """Embed clips of one length, ``[n, S]``, as ``[n, T, D]``."""
        return self._embed("embed_frames", waveform, "n T D")

    def padded_clips(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Embed a padded batch ``[n, S]`` as the object itself does, for :mod:`ssl_wb.encoder.check`: ``[n, D]``."""
        what = f"embed_clip on a padded batch of shape {tuple(waveform.shape)}"
        values = self.call(what, lambda: self._encoder.embed_clip(waveform, lengths))
        return self.checked(values, "embed_clip", len(waveform), "n D")

    def _embed(self, method: str, waveform: Tensor, axes: str) -> Tensor:
        lengths = torch.full((len(waveform),), waveform.shape[1])
        what = f"{method} on clips of shape {tuple(waveform.shape)}"
        values = self.call(what, lambda: getattr(self._encoder, method)(waveform, lengths))
        return self.checked(values, method, len(waveform), axes)


class LayeredPythonEncoder(PythonEncoder):
    """Wraps an object that has ``layers`` too."""

    @torch.no_grad()
    def layers(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` with every layer: ``[B, L, T, D]``, 0 after a clip's end.

        Raises:
            UsageError: as :meth:`embed_clip`.
            DataError: as :meth:`embed_clip`.
        """
        return self._by_length(waveform, lengths, lambda clips: self._embed("layers", clips, "n L T D"), time=2)


def load_python_object(source: str, module: str, function: str) -> PythonEncoder | FrozenEncoder:
    """Load an external encoder by calling a function without arguments.

    Args:
        source: as the user named it, for messages and tables.
        module: its name, or a Python file.
        function: its name in the module; returns an object of the :class:`ssl_wb.api.Encoder` protocol.

    Raises:
        UsageError: it cannot be loaded, or the object lacks a method or attribute.
    """
    loaded = import_module(module, source)
    make = getattr(loaded, function, None)
    if not callable(make):
        names = [name for name, value in vars(loaded).items() if callable(value)]
        raise UsageError(
            f"{source}: no function {function!r} in the module{did_you_mean(function, names)}",
            hint="python:MODULE:FUNCTION names a function that returns an encoder.",
        )
    made = call_external(source, f"{function}()", make, "It is called without arguments.")
    if type(made) is FrozenEncoder:
        return made  # our own class needs no adapter; as itself it can be cached and fine-tuned
    if missing := [name for name in ("embed_clip", "embed_frames") if not callable(getattr(made, name, None))]:
        raise UsageError(
            f"{source}: the {type(made).__name__} that {function}() returns has no {', no '.join(missing)}",
            hint="An encoder has sample_rate, embed_clip(waveform, lengths) and embed_frames(waveform, lengths).",
        )
    layered = callable(getattr(made, "layers", None))
    if isinstance(made, torch.nn.Module):
        made.eval()
    return (LayeredPythonEncoder if layered else PythonEncoder)(source, made)

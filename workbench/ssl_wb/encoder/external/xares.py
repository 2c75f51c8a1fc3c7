"""External encoders written for X-ARES, the eXtensive Audio Representation and Evaluation Suite.

Source: the encoder interface of github.com/jimbozhang/xares (``audio_encoder_checker``, ``example/dasheng``); Zhang et
al. 2025, arXiv 2505.16369.
"""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ssl_wb.encoder.external.base import ExternalEncoder, sample_rate_of
from ssl_wb.encoder.external.module_import import call_external, import_module
from ssl_wb.errors import UsageError, did_you_mean

__all__ = ["XaresEncoder", "load_xares"]

#: X-ARES finds encoder classes by this ending of their names.
ENDING = "Encoder"


class XaresEncoder(ExternalEncoder):
    """An X-ARES encoder: called with audio ``[B, S]`` it returns ``[B, T, D]``; a clip's embedding is the mean.

    Args:
        source: as the user named it.
        encoder: has ``sampling_rate``, ``output_dim`` and, optionally, ``hop_size_in_ms``.
        device: where audio is put.
    """

    def __init__(self, source: str, encoder: Any, device: str | torch.device) -> None:
        super().__init__(source, sample_rate_of(encoder, "sampling_rate", source))
        self._encoder, self._device = encoder, device
        self._width = getattr(encoder, "output_dim", None)
        if not isinstance(self._width, int) or self._width < 1:
            raise UsageError(
                f"{source}: the {type(encoder).__name__} has no attribute 'output_dim' that is a number of values",
                hint="X-ARES asks for 'sampling_rate' and 'output_dim'.",
            )
        hop = getattr(encoder, "hop_size_in_ms", None)
        if isinstance(hop, (int, float)) and hop > 0:
            self.hop_seconds = hop / 1000

    def whole_frames(self, waveform: Tensor) -> Tensor:
        """Embed clips of one length, ``[n, S]``, as ``[n, T, D]``."""
        audio = waveform.to(self._device)
        what = f"the {type(self._encoder).__name__} called with audio of shape {tuple(audio.shape)}"
        values = self.call(what, lambda: self._encoder(audio))
        return self.checked(values, what, len(waveform), "n T D", self._width)


def load_xares(source: str, file: str, name: str | None, device: str | torch.device = "cpu") -> XaresEncoder:
    """Load an X-ARES encoder.

    Args:
        source: as the user named it, for messages and tables.
        file: a Python file, or the name of a module.
        name: of the class; when None, the only class that the file defines and whose name ends in ``Encoder``.
        device: where it is put, if it is a PyTorch module.

    Raises:
        UsageError: it cannot be loaded, or lacks an attribute.
    """
    kind = _class_of(import_module(file, source), name, source)
    encoder = call_external(source, f"{kind.__name__}()", kind, "X-ARES makes an encoder without arguments.")
    if not callable(encoder):
        raise UsageError(f"{source}: a {kind.__name__} cannot be called", hint="Give it a forward, or a __call__.")
    if isinstance(encoder, nn.Module):
        encoder = encoder.to(device).eval()
    else:
        device = "cpu"  # no module to move: it gets audio on the CPU and computes where it likes
    return XaresEncoder(source, encoder, device)


def _class_of(module: ModuleType, name: str | None, source: str) -> type:
    """Return the class named, or the only encoder that a module defines."""
    kinds = {key: value for key, value in vars(module).items() if inspect.isclass(value)}
    if name is not None:
        if name not in kinds:
            raise UsageError(
                f"{source}: no class {name!r} in it{did_you_mean(name, kinds)}", hint="Names are those of the file."
            )
        return kinds[name]
    defined = [key for key, kind in kinds.items() if key.endswith(ENDING) and kind.__module__ == module.__name__]
    if len(defined) != 1:
        what = f"defines {', '.join(defined)}" if defined else f"defines no class whose name ends in {ENDING!r}"
        raise UsageError(f"{source}: it {what}", hint="Name the class: xares:FILE.py:CLASS.")
    return kinds[defined[0]]

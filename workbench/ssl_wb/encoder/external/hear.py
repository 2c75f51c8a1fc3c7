"""External encoders with the common API of HEAR, the Holistic Evaluation of Audio Representations.

Source: hearbenchmark.com/hear-api.html; Turian et al. 2022, arXiv 2203.03022. PyTorch modules only.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ssl_wb.encoder.external.base import ExternalEncoder, sample_rate_of
from ssl_wb.encoder.external.module_import import call_external, import_module
from ssl_wb.errors import UsageError

__all__ = ["HearEncoder", "load_hear"]

API = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")


class HearEncoder(ExternalEncoder):
    """A HEAR module: scene embeddings for clips, timestamp embeddings for frames, each as the module makes them.

    Args:
        source: as the user named it.
        module: has the three functions of the API.
        model: what its ``load_model`` returned.
        device: where the model is.
    """

    def __init__(self, source: str, module: ModuleType, model: nn.Module, device: str | torch.device) -> None:
        super().__init__(source, sample_rate_of(model, "sample_rate", source))
        self._module, self._model, self._device = module, model, device

    def whole_clips(self, waveform: Tensor) -> Tensor:
        """Return scene embeddings ``[n, D]`` of clips of one length, ``[n, S]``."""
        values = self._embed("get_scene_embeddings", waveform)
        width = getattr(self._model, "scene_embedding_size", None)
        return self.checked(values, "get_scene_embeddings", len(waveform), "n D", width)

    def whole_frames(self, waveform: Tensor) -> Tensor:
        """Return timestamp embeddings ``[n, T, D]`` of clips of one length, ``[n, S]``."""
        return self._timestamps(waveform)[0]

    def _timestamps(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Return timestamp embeddings ``[n, T, D]`` and their times ``[n, T]`` in milliseconds."""
        what, pair = "get_timestamp_embeddings", self._embed("get_timestamp_embeddings", waveform)
        values, times = pair if isinstance(pair, (tuple, list)) and len(pair) == 2 else (pair, None)
        width = getattr(self._model, "timestamp_embedding_size", None)
        frames = self.checked(values, what, len(waveform), "n T D", width)
        return frames, self.checked(times, f"{what} (its timestamps)", len(waveform), "n T")

    def _embed(self, function: str, waveform: Tensor) -> Any:
        audio = waveform.to(self._device)
        call = getattr(self._module, function)
        return self.call(f"{function} on clips of shape {tuple(audio.shape)}", lambda: call(audio, self._model))

    def try_out(self) -> None:
        """As for all external encoders; the hop follows from the timestamps, which are exact.

        Raises:
            DataError: a function fails, or what it returns has a wrong shape or is not finite.
        """
        _, times = self._timestamps(torch.zeros(1, self.sample_rate))  # [1, T]
        if times.shape[1] > 1:
            self.hop_seconds = float(times[0].diff().mean()) / 1000
        super().try_out()


def load_hear(source: str, module: str, weights: str | None, device: str | torch.device = "cpu") -> HearEncoder:
    """Load a HEAR module.

    Args:
        source: as the user named it, for messages and tables.
        module: its name, or a file of Python.
        weights: file for ``load_model``, which is called without arguments when None.
        device: where the model is put.

    Raises:
        UsageError: it cannot be loaded, lacks a function or an attribute, or is no PyTorch module.
    """
    loaded = import_module(module, source)
    if missing := [name for name in API if not callable(getattr(loaded, name, None))]:
        raise UsageError(
            f"{source}: the module has no {', no '.join(missing)}",
            hint=f"A HEAR module has the functions {', '.join(API)}: hearbenchmark.com/hear-api.html.",
        )
    arguments = [str(Path(weights).expanduser())] if weights is not None else []
    called = f"load_model({', '.join(map(repr, arguments))})"
    hint = "Weights are named as hear:MODULE:WEIGHTS."
    model = call_external(source, called, lambda: loaded.load_model(*arguments), hint)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"{source}: load_model returns a {type(model).__name__}, no PyTorch module",
            hint="TensorFlow models of HEAR are not supported.",
        )
    return HearEncoder(source, loaded, model.to(device).eval(), device)

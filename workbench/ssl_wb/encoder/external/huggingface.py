"""Audio models of the Hugging Face hub, or of a folder in its format, through transformers.

No code of a repository is run, only what transformers itself holds.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ssl_wb.encoder.external.base import ExternalEncoder, sample_rate_of
from ssl_wb.encoder.external.module_import import failure
from ssl_wb.errors import DataError, UsageError

__all__ = ["HuggingFaceEncoder", "load_huggingface", "require_transformers"]

#: Kaldi's frames, as the spectrogram transformer's feature extractor makes them: 25 ms every 10 ms.
KALDI_LENGTH, KALDI_SHIFT = 0.025, 0.010
#: Tokens of the spectrogram transformer before its patches: class and distillation.
AST_SPECIAL = 2


@dataclass(frozen=True)
class _Window:
    """What a model reads at once, where that is limited.

    Attributes:
        samples: most of a pass; longer clips are cut, each piece read by itself.
        step: samples from the begin of one piece to that of the next: what the frames of a whole pass stand for.
    """

    samples: int
    step: int


class HuggingFaceEncoder(ExternalEncoder):
    """The encoder of an audio model: frames are its last hidden state, a clip's embedding their mean.

    Models over waveforms (wav2vec 2.0, HuBERT, WavLM, data2vec, ...) read a clip whole. Whisper's encoder and the audio
    spectrogram transformer read a fixed length, to which their feature extractors pad: longer clips are cut into
    pieces of it, and frames past a clip's end are left out. The spectrogram transformer's frames are means over the
    patches of one time. Layers are the blocks' outputs.

    Args:
        source: what the user named it by.
        model: of transformers; its encoder, where it has a decoder, too.
        extractor: its feature extractor.
        device: where the model is.
    """

    def __init__(self, source: str, model: Any, extractor: Any, device: str | torch.device) -> None:
        super().__init__(source, sample_rate_of(extractor, "sampling_rate", source))
        self._model = model.get_encoder() if model.config.is_encoder_decoder else model
        self._config, self._extractor, self._device = model.config, extractor, device
        self._ast = model.config.model_type == "audio-spectrogram-transformer"
        self._window = self._window_of()
        if self._ast:
            self.hop_seconds = model.config.time_stride * KALDI_SHIFT
        #: All there is to say about the encoder, for the key of kept embeddings.
        self.settings = {
            "weights": _digest(self._model),
            "config": {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"},
            "extractor": extractor.to_dict(),
            "transformers": importlib.import_module("transformers").__version__,
            "device": torch.device(device).type,
        }

    def _window_of(self) -> _Window | None:
        if self._ast:
            spectra, stride = self._extractor.max_length, self._config.time_stride
            length, shift = (int(part * self.sample_rate) for part in (KALDI_LENGTH, KALDI_SHIFT))
            columns = (spectra - self._config.patch_size) // stride + 1
            return _Window((spectra - 1) * shift + length, columns * stride * shift)
        samples = getattr(self._extractor, "n_samples", None)  # Whisper's
        return _Window(samples, samples) if isinstance(samples, int) else None

    def whole_frames(self, waveform: Tensor) -> Tensor:
        """Embed clips of one length, ``[n, S]``, as ``[n, T, D]``."""
        return self._hidden(waveform, every=False)[:, 0]

    @torch.no_grad()
    def layers(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` with every block: ``[B, L, T, D]``, 0 past a clip's end; the last one normed.

        Raises:
            UsageError: as :meth:`embed_clip`.
            DataError: as :meth:`embed_clip`, or the model's layers differ in width.
        """
        return self._placed(waveform, lengths, lambda clips: self._hidden(clips, every=True), time=2)

    def _hidden(self, waveform: Tensor, *, every: bool) -> Tensor:
        """Return hidden states ``[n, L, T, D]`` of clips of one length ``[n, S]``: every block's, or the last."""
        if self._window is None:
            return self._pass(waveform, every=every)
        samples, step = self._window.samples, self._window.step
        beyond = max(0, waveform.shape[1] - samples)  # what the first pass does not read
        begins = range(0, beyond + step, step)  # the last of them reads to the end
        return torch.cat([self._pass(waveform[:, at : at + samples], every=every) for at in begins], dim=2)

    def _pass(self, waveform: Tensor, *, every: bool) -> Tensor:
        """As :meth:`_hidden`, of clips that fit into one pass."""
        what = f"the model on clips of shape {tuple(waveform.shape)}"
        given, output = self.ask(what, lambda: self._run(waveform, every=every))
        last = self.checked(getattr(output, "last_hidden_state", None), what, len(waveform), "n T D")
        states = [last]
        if every:
            blocks = getattr(output, "hidden_states", None) or ()
            # The first is what goes into the blocks; the last one lacks the final norm in some models.
            states = [self.checked(state, what, len(waveform), "n T D") for state in blocks[1:]]
            if not states or len({state.shape for state in states}) > 1:
                raise DataError(
                    f"{self.source}: the model gives no layers of one width", hint="Leave the evaluator of layers out."
                )
            if states[-1].shape == last.shape:
                states[-1] = last
        frames = torch.stack([self._over_time(state) for state in states], dim=1)  # [n, L, T, D]
        return frames[:, :, : self._own(waveform.shape[1], frames.shape[2], given)]

    def _run(self, waveform: Tensor, *, every: bool) -> tuple[Any, Any]:
        """Return what the feature extractor makes of clips ``[n, S]``, and what the model makes of that."""
        given = self._extractor(list(waveform.numpy()), sampling_rate=self.sample_rate, return_tensors="pt")
        given = given.to(self._device)
        return given, self._model(**given, output_hidden_states=every, return_dict=True)

    def _over_time(self, tokens: Tensor) -> Tensor:
        """Bring tokens ``[n, T, D]`` to frames ``[n, T', D]``: patches of one time to their mean, or as they are."""
        if not self._ast:
            return tokens
        bands = (self._config.num_mel_bins - self._config.patch_size) // self._config.frequency_stride + 1
        return tokens[:, AST_SPECIAL:].unflatten(1, (bands, -1)).mean(dim=1)  # patches are frequency-major

    def _own(self, samples: int, frames: int, given: Any) -> int:
        """Return how many of the frames are those of a clip and not of what it was padded with."""
        if self._ast:
            length, shift = (part * self.sample_rate for part in (KALDI_LENGTH, KALDI_SHIFT))
            spectra = 1 + (samples - length) // shift
            return min(frames, max(1, math.ceil(spectra / self._config.time_stride)))
        if self._window is not None:
            return max(1, math.ceil(frames * samples / self._window.samples))
        mask = given.get("attention_mask")
        if mask is not None and mask.shape[1] == frames:
            return max(1, int(mask[0].sum()))
        return frames


def require_transformers(source: str) -> None:
    """Refuse to go on without transformers.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise UsageError(f"{source}: this needs transformers", hint="pip install 'ssl-wb[huggingface]'")


def load_huggingface(source: str, name: str, device: str | torch.device = "cpu") -> HuggingFaceEncoder:
    """Load an audio model of the hub, or of a folder.

    Args:
        source: what the user named it by, for messages and tables.
        name: on the hub (downloaded once), or a folder that ``save_pretrained`` wrote model and feature extractor to.
        device: where it computes.

    Raises:
        UsageError: transformers is missing, or finds no audio model there.
        DataError: the model gives no sequence of hidden states, or values that are not finite.
    """
    require_transformers(source)
    from transformers import AutoFeatureExtractor, AutoModel

    try:
        # Weights that a checkpoint lacks are drawn; by the same numbers each time, and not by the caller's.
        with torch.random.fork_rng(devices=[]), _quietly():
            torch.manual_seed(0)
            extractor = AutoFeatureExtractor.from_pretrained(name)
            model = AutoModel.from_pretrained(name, dtype=torch.float32)
    except Exception as error:  # transformers raises of all kinds: absent, offline, of another kind, code of its own
        raise UsageError(
            f"{source}: transformers cannot load it: {failure(error)}",
            hint="NAME is a model on the hub, or a folder with config.json, weights and preprocessor_config.json. "
            "Models that bring code of their own are not run; wrap them with python:MODULE:FUNCTION.",
        ) from error
    encoder = HuggingFaceEncoder(source, model.to(device).eval(), extractor, device)
    encoder.try_out()
    return encoder


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the bars of loading off a terminal that has one already."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _digest(model: torch.nn.Module) -> str:
    """Digest every parameter and buffer."""
    digest = hashlib.sha256(type(model).__qualname__.encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

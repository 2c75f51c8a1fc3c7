"""Audio models of the Hugging Face hub, or of a folder in its format, through transformers.

Only models that transformers itself implements: no code of a repository is run.
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

#: Frames of the audio spectrogram transformer's feature extractor, as in Kaldi: 25 ms every 10 ms.
KALDI_LENGTH, KALDI_SHIFT = 0.025, 0.010
#: Tokens before the patches of the audio spectrogram transformer: class and distillation.
AST_SPECIAL = 2


@dataclass(frozen=True)
class _Window:
    """The fixed input length of a model.

    Attributes:
        samples: input length; a longer clip is cut into pieces, each encoded by itself.
        step: samples from the start of one piece to the start of the next: the time that the frames of a piece cover.
    """

    samples: int
    step: int


class HuggingFaceEncoder(ExternalEncoder):
    """The encoder of an audio model: frames are its last hidden state, a clip's embedding is their mean.

    Models of waveforms (wav2vec 2.0, HuBERT, WavLM, data2vec, ...) encode a clip whole. Whisper's encoder and the audio
    spectrogram transformer (AST) have a fixed input length, to which their feature extractors pad: longer clips are cut
    into pieces, and frames after a clip's end are dropped. AST's frames are means over the patches at one time. Layers
    are the blocks' outputs.

    Args:
        source: as the user named it.
        model: of transformers; of an encoder-decoder model only the encoder is used.
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
        #: Everything that embeddings depend on: the key of the embedding cache.
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
        return self._hidden(waveform, all_blocks=False)[:, 0]

    @torch.no_grad()
    def layers(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms ``[B, S]`` with every block: ``[B, L, T, D]``, 0 after a clip's end; the last one normed.

        Raises:
            UsageError: as :meth:`embed_clip`.
            DataError: as :meth:`embed_clip`, or the model's layers differ in width.
        """
        return self._by_length(waveform, lengths, lambda clips: self._hidden(clips, all_blocks=True), time=2)

    def _hidden(self, waveform: Tensor, *, all_blocks: bool) -> Tensor:
        """Return hidden states ``[n, L, T, D]`` of clips of one length ``[n, S]``: of all blocks, or the last."""
        if self._window is None:
            return self._piece(waveform, all_blocks=all_blocks)
        samples, step = self._window.samples, self._window.step
        rest = max(0, waveform.shape[1] - samples)  # samples after the first piece
        starts = range(0, rest + step, step)  # the last piece reaches the end of the clip
        pieces = [self._piece(waveform[:, at : at + samples], all_blocks=all_blocks) for at in starts]
        return torch.cat(pieces, dim=2)

    def _piece(self, waveform: Tensor, *, all_blocks: bool) -> Tensor:
        """As :meth:`_hidden`, of clips no longer than the model's input."""
        what = f"the model on clips of shape {tuple(waveform.shape)}"

        def run() -> tuple[Any, Any]:
            inputs = self._extractor(list(waveform.numpy()), sampling_rate=self.sample_rate, return_tensors="pt")
            inputs = inputs.to(self._device)
            return inputs, self._model(**inputs, output_hidden_states=all_blocks, return_dict=True)

        inputs, output = self.call(what, run)
        last = self.checked(getattr(output, "last_hidden_state", None), what, len(waveform), "n T D")
        states = [last]
        if all_blocks:
            blocks = getattr(output, "hidden_states", None) or ()
            # The first is the blocks' input. In some models the last lacks the final norm: last_hidden_state has it.
            states = [self.checked(state, what, len(waveform), "n T D") for state in blocks[1:]]
            if not states or len({state.shape for state in states}) > 1:
                raise DataError(
                    f"{self.source}: the model gives no layers of one width", hint="Leave the evaluator of layers out."
                )
            if states[-1].shape == last.shape:
                states[-1] = last
        frames = torch.stack([self._over_time(state) for state in states], dim=1)  # [n, L, T, D]
        return frames[:, :, : self._frames_of_clip(waveform.shape[1], frames.shape[2], inputs)]

    def _over_time(self, states: Tensor) -> Tensor:
        """Turn hidden states into frames ``[n, T, D]``: for AST the mean over the patches at one time."""
        if not self._ast:
            return states
        bands = (self._config.num_mel_bins - self._config.patch_size) // self._config.frequency_stride + 1
        patches = states[:, AST_SPECIAL:].unflatten(1, (bands, -1))  # [n, f, T, D], patches are frequency-major
        return patches.mean(dim=1)

    def _frames_of_clip(self, samples: int, frames: int, inputs: Any) -> int:
        """Return how many of the frames belong to a clip of ``samples`` samples and not to its padding."""
        if self._ast:
            length, shift = (part * self.sample_rate for part in (KALDI_LENGTH, KALDI_SHIFT))
            spectra = 1 + (samples - length) // shift
            return min(frames, max(1, math.ceil(spectra / self._config.time_stride)))
        if self._window is not None:
            return max(1, math.ceil(frames * samples / self._window.samples))
        mask = inputs.get("attention_mask")
        if mask is not None and mask.shape[1] == frames:
            return max(1, int(mask[0].sum()))
        return frames


def require_transformers(source: str) -> None:
    """Check that transformers is installed.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("transformers") is None:
        raise UsageError(f"{source}: this needs transformers", hint="pip install 'ssl-wb[huggingface]'")


def load_huggingface(source: str, name: str, device: str | torch.device = "cpu") -> HuggingFaceEncoder:
    """Load an audio model of the hub, or of a folder.

    Args:
        source: as the user named it, for messages and tables.
        name: on the hub (downloaded once), or a folder with a model and a feature extractor by ``save_pretrained``.
        device: where it computes.

    Raises:
        UsageError: transformers is missing, or finds no audio model there.
    """
    require_transformers(source)
    from transformers import AutoFeatureExtractor, AutoModel

    try:
        # transformers draws weights that a checkpoint lacks: by a fixed seed, without touching the caller's state.
        with torch.random.fork_rng(devices=[]), _quietly():
            torch.manual_seed(0)
            extractor = AutoFeatureExtractor.from_pretrained(name)
            model = AutoModel.from_pretrained(name, dtype=torch.float32)
    except Exception as error:  # transformers raises many types: absent, offline, other kind of model, custom code
        raise UsageError(
            f"{source}: transformers cannot load it: {failure(error)}",
            hint="NAME is a model on the hub, or a folder with config.json, weights and preprocessor_config.json. "
            "Models that bring code of their own are not run; wrap them with python:MODULE:FUNCTION.",
        ) from error
    return HuggingFaceEncoder(source, model.to(device).eval(), extractor, device)


@contextmanager
def _quietly() -> Iterator[None]:
    """Switch off the progress bars of transformers: the terminal already has one."""
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

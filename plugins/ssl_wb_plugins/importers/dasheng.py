"""Dasheng: files of the authors' package and folders of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ssl_wb.api import (
    Checkpoint,
    CheckpointTensors,
    ClipReading,
    ImportedEncoder,
    Importer,
    assumed_heads,
    hookimpl,
    take_projection,
    take_vit,
)

#: What the front end is where a file does not say: the released models' values.
FRONT_END = {"n_mels": 64, "hop_size": 160, "win_size": 512, "n_fft": 512, "f_min": 0.0, "f_max": 8000.0}
SAMPLE_RATE = 16000
#: Epsilon of the batch norm over mel bands.
EPSILON = 1e-5


class Dasheng(Importer):
    """Dasheng: base, 0.6B and 1.2B, as the authors' package or the hub stores them.

    Patches are as high as the spectrogram, so there is one row of them and a frame every 40 ms. Clips are cut into
    pieces of the training length, which do not see each other; an incomplete last patch is dropped. The batch norm over
    mel bands becomes a scale and shift of each band in the front end. The clip embedding is the mean over frames.
    """

    name = "dasheng"
    reference = "Dasheng, Dinkel et al. 2024, arXiv 2406.06992"

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether it has separate positions of time and frequency, and a batch norm of mel bands."""
        stems = ("time_pos_embed", "freq_pos_embed", "init_bn.")
        return sum(any(name.startswith(stem) for name in checkpoint.tensors) for stem in stems) >= 2

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder; see the class."""
        stored = _stored(checkpoint)
        state, sizes = take_vit(tensors, depth=stored.get("depth"))
        projection, patch = take_projection(tensors, sizes.dim)
        time = tensors.take("time_pos_embed", (1, sizes.dim, 1, None), "position_table", "summed for each patch")
        freq = tensors.take("freq_pos_embed", (1, sizes.dim, None, 1), "position_table", "summed for each patch")
        table = (freq + time).flatten(2).transpose(1, 2).contiguous()  # [1, f * t, D], frequency-major
        state |= projection | {"position_table": table}
        front_end = _front_end(stored, tensors)
        if freq.shape[2] != front_end["n_mels"] // max(1, patch[0]):
            tensors.refuse("freq_pos_embed", f"{freq.shape[2]} rows do not fit patches {patch[0]} mels high")
        length = stored.get("target_length")
        if isinstance(length, int) and length // max(1, patch[1]) != time.shape[3]:
            tensors.refuse("time_pos_embed", f"{time.shape[3]} columns do not fit the stored target_length {length}")
        heads, notes = assumed_heads(sizes.dim, self.options.heads, stored.get("num_heads"))
        tensors.leave(r"decoder\..*|mask_token|decoder_.*", "the decoder of pre-training")
        tensors.leave(r"outputlayer\..*|head\..*", "a classifier that was trained on top")
        frames = time.shape[3] * patch[1]
        return ImportedEncoder(
            front_end=front_end,
            backbone={
                "name": "vit", "dim": sizes.dim, "depth": sizes.depth, "heads": heads,
                "mlp_ratio": sizes.hidden / sizes.dim, "patch": list(patch), "class_token": False,
                "positions": "trainable", "key_bias": sizes.key_bias, "init": "trunc-normal",
            },
            frames=frames,
            weights=state,
            reading=ClipReading(frames, partial_patch="dropped"),
            published="frames",
            notes=notes,
        )  # fmt: skip


def _stored(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the constructor's arguments: the file's ``config``, or the hub's ``encoder_kwargs`` in it."""
    config = checkpoint.setting("config", default={})
    inner = config.get("encoder_kwargs")
    return inner if isinstance(inner, Mapping) else config


def _front_end(stored: Mapping[str, Any], tensors: CheckpointTensors) -> dict[str, Any]:
    """Return the front end, with the batch norm of mel bands as a scale and shift of each."""
    sizes = {key: stored.get(key, value) for key, value in FRONT_END.items()}
    bands = int(sizes["n_mels"])
    norm = {
        part: tensors.take(f"init_bn.1.{part}", (bands,), "front_end.band_scale, front_end.band_shift").double()
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    tensors.leave(r"init_bn\.1\.num_batches_tracked", "counts batches of training")
    scale = norm["weight"] / (norm["running_var"] + EPSILON).sqrt()  # [F]
    shift = norm["bias"] - norm["running_mean"] * scale  # [F]
    _check_buffers(sizes, tensors)
    return {
        "name": "db-mel", "sample_rate": SAMPLE_RATE, "hop": int(sizes["hop_size"]), "n_mels": bands,
        "window": int(sizes["win_size"]), "n_fft": int(sizes["n_fft"]), "f_min": float(sizes["f_min"]),
        "f_max": float(sizes["f_max"]), "band_scale": scale.tolist(), "band_shift": shift.tolist(), "mean": 0.0,
        "std": 1.0,
    }  # fmt: skip


def _check_buffers(sizes: Mapping[str, Any], tensors: CheckpointTensors) -> None:
    """Compare the stored window and mel filters with those of the front end, where the file has them."""
    window, filters = "front_end.0.spectrogram.window", "front_end.0.mel_scale.fb"
    if tensors.has(r"front_end\..*"):
        tensors.check(window, torch.hann_window(int(sizes["win_size"])))
        tensors.check(filters, _filters(sizes))


def _filters(sizes: Mapping[str, Any]) -> Tensor:
    """Return the mel filters of the front end, ``[n_fft // 2 + 1, F]``."""
    from torchaudio.functional import melscale_fbanks  # the import takes seconds

    return melscale_fbanks(
        int(sizes["n_fft"]) // 2 + 1, float(sizes["f_min"]), float(sizes["f_max"]), int(sizes["n_mels"]), SAMPLE_RATE
    )


@hookimpl
def ssl_wb_importers() -> list[type[Importer]]:
    """Offer this importer."""
    return [Dasheng]

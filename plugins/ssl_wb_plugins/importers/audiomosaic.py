"""AudioMosaic: folders of the Hugging Face hub and training files, pre-trained and classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor

from ssl_wb.api import (
    Checkpoint,
    CheckpointTensors,
    ClipReading,
    Field,
    HeadSpec,
    ImportedEncoder,
    Importer,
    ImportOptions,
    hookimpl,
    take_mae,
    take_norm,
)

#: Mel bands, and mean and deviation of AudioSet.
MELS, MEAN, STD = 128, -4.2677393, 4.5689974


class AudioMosaicOptions(ImportOptions):
    """What a user may say of a file of AudioMosaic."""

    scale: Literal["auto", "released", "training"] = Field(
        "auto",
        description="Normalisation: 'released' divides by the deviation, as the hub's folders do; 'training' by twice "
        "the deviation, as pre-training does. 'auto': released where the folder has audio_preprocessing.",
    )


class AudioMosaic(Importer):
    """AudioMosaic: the encoder, and its projector or classifier as a head.

    Every clip is padded or cut to the training length, and the padding takes part. The published embedding is the mean
    over all tokens, the class token among them, before ``fc_norm``. ``fc_norm`` belongs to the heads ``projector``
    (evaluation mode) and ``classifier``.
    """

    name = "audiomosaic"
    reference = "AudioMosaic, arXiv 2605.14231"
    Options = AudioMosaicOptions

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether it has a norm of all tokens before the blocks and one after the patch projection."""
        stems = ("norm_pre.", "patch_embed.norm.")
        return all(any(name.startswith(stem) for name in checkpoint.tensors) for stem in stems)

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder; see the class."""
        config = checkpoint.setting("config", default={})
        final = "norm" if tensors.has(r"norm\.(weight|bias)") else None
        heads = self.options.heads or config.get("num_heads")
        encoder = take_mae(
            tensors, MELS, heads, norm=final, time_first=True, may_lack_bias=True, depth=config.get("depth")
        )
        dim = int(encoder.options["dim"])
        state = encoder.weights | take_norm(tensors, "patch_embed.norm", dim, "patch_norm")
        state |= take_norm(tensors, "norm_pre", dim, "trunk.pre_norm")
        pooling = config.get("pooling", "avg")
        behind = _heads(tensors, dim, config)
        if not behind:
            tensors.leave(r"fc_norm\..*", "norm of the clip embedding, for a classifier")
        tensors.leave(r"logit_(scale|bias)|online_classifier\..*", "parts of pre-training's loss")
        preprocessing = config.get("audio_preprocessing")
        return ImportedEncoder(
            front_end=_front_end(preprocessing, self.options.scale),
            backbone=encoder.options
            | {"patch_norm": True, "pre_norm": True, "pool": "class" if pooling == "cls" else "all"}
            | {"init": "trunc-normal"},
            frames=encoder.frames,
            weights=state,
            reading=ClipReading(_target_length(preprocessing, encoder.frames), padded_chunks=True, long_clips="cut"),
            published="clip-token" if pooling == "cls" else "pooled",
            heads=behind,
            notes=encoder.notes,
        )


def _front_end(preprocessing: Any, scale: str) -> dict[str, Any]:
    """Return the front end: Kaldi's filter bank, padded with log-mel 0 before normalisation."""
    stored: Mapping[str, Any] = preprocessing if isinstance(preprocessing, Mapping) else {}
    released = bool(stored) if scale == "auto" else scale == "released"
    rate = int(stored.get("sample_rate", 16000))
    return {
        "name": "kaldi-fbank", "sample_rate": rate, "n_mels": int(stored.get("num_mel_bins", MELS)), "n_fft": 512,
        "hop": round(rate * float(stored.get("frame_shift", 10.0)) / 1000), "f_min": 20.0, "subtract_mean": True,
        "pad": "zero", "mean": float(stored.get("norm_mean", MEAN)), "std": float(stored.get("norm_std", STD)),
        "std_factor": 1.0 if released else 2.0,
        # The hub's helper extends a clip to one second before it removes the mean.
        "min_samples": rate if stored else 0,
    }  # fmt: skip


def _target_length(preprocessing: Any, frames: int) -> int:
    """Return the frames to which clips are padded or cut: those of the position table."""
    stored = preprocessing.get("target_length") if isinstance(preprocessing, Mapping) else None
    return stored if isinstance(stored, int) and 0 < stored <= frames else frames


def _heads(tensors: CheckpointTensors, dim: int, config: Mapping[str, Any]) -> dict[str, HeadSpec]:
    """Return the projector of a pre-trained file or the classifier of a fine-tuned one."""
    reads: Literal["clip-token", "pooled"] = "clip-token" if config.get("pooling") == "cls" else "pooled"
    name = "projector" if tensors.has(r"projector\..*") else "classifier" if tensors.has(r"head\..*") else ""
    if not name:
        return {}
    root = f"heads.{name}."
    weights = take_norm(tensors, "fc_norm", dim, f"{root}0")
    norm = {"layer": "layer-norm", "normalized_shape": dim, "eps": 1e-6}
    if name == "classifier":
        classes = tensors.size("number of classes", {r"head\.weight": 0, r"head\.bias": 0}, config.get("num_classes"))
        for part, shape in (("weight", (classes, dim)), ("bias", (classes,))):
            weights[f"{root}1.{part}"] = tensors.take(f"head.{part}", shape, f"{root}1.{part}")
        linear = {"layer": "linear", "in_features": dim, "out_features": classes}
        return {
            name: HeadSpec(reads, (norm, linear), {key.removeprefix(root): value for key, value in weights.items()})
        }
    norms = r"(weight|bias|running_mean|running_var)"
    hidden = tensors.size(
        "hidden width of the projector",
        {r"projector\.0\.weight": 0, rf"projector\.1\.{norms}": 0, r"projector\.3\.weight": 1},
    )
    out = tensors.size(
        "width of the projector",
        {r"projector\.3\.weight": 0, rf"projector\.4\.{norms}": 0},
        config.get("project_embedding_dim"),
    )
    for number, to, shape in ((0, 1, (hidden, dim)), (3, 4, (out, hidden))):
        weights[f"{root}{to}.weight"] = tensors.take(f"projector.{number}.weight", shape, f"{root}{to}.weight")
    for number, to, size in ((1, 2, hidden), (4, 5, out)):
        for part in ("weight", "bias", "running_mean", "running_var"):
            key = f"projector.{number}.{part}"
            if part in ("weight", "bias") and number == 4 and not tensors.has(r"projector\.4\.(weight|bias)"):
                continue  # the last batch norm may have no scale
            weights[f"{root}{to}.{part}"] = tensors.take(key, (size,), f"{root}{to}.{part}")
    tensors.leave(r"projector\.\d+\.num_batches_tracked", "counts batches of training")
    affine = f"{root}5.weight" in weights
    layers = (
        norm,
        {"layer": "linear", "in_features": dim, "out_features": hidden, "bias": False},
        {"layer": "batch-norm", "num_features": hidden},
        {"layer": "relu"},
        {"layer": "linear", "in_features": hidden, "out_features": out, "bias": False},
        {"layer": "batch-norm", "num_features": out, "affine": affine},
    )
    # ReLU has no tensors, so the layers after it have the numbers 4 and 5 here as in the list above.
    return {name: HeadSpec(reads, layers, _below(root, weights))}


def _below(root: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by their names below ``root``."""
    return {key.removeprefix(root): value for key, value in weights.items()}


@hookimpl
def ssl_wb_importers() -> list[type[Importer]]:
    """Offer this importer."""
    return [AudioMosaic]

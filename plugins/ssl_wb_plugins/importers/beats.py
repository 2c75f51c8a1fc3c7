"""BEATs: pre-trained and fine-tuned files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ssl_wb.api import (
    Checkpoint,
    CheckpointTensors,
    ClipReading,
    DataError,
    HeadSpec,
    ImportedEncoder,
    Importer,
    hookimpl,
    take_norm,
)

#: Mel bands, and mean and deviation of the log-mel values at 16-bit scale.
MELS, MEAN, STD = 128, 15.41663, 6.55582
#: Frames encoded at once, one minute: the bias of distances grows with the square of the clip's length.
CHUNK = 6000
#: Names of a block's tensors in the file and in the backbone, with their shapes by letters.
BLOCK = {
    "self_attn.q_proj": ("query", "DD"), "self_attn.k_proj": ("key", "DD"), "self_attn.v_proj": ("value", "DD"),
    "self_attn.out_proj": ("out", "DD"), "self_attn.grep_linear": ("gate", "8d"),
    "self_attn_layer_norm": ("norm1", "D"), "fc1": ("fc1", "FD"), "fc2": ("fc2", "DF"),
    "final_layer_norm": ("norm2", "D"),
}  # fmt: skip


class BeatsImporter(Importer):
    """BEATs: the encoder of pre-trained (iter1 to iter3+) and fine-tuned files.

    Waveforms at 16-bit scale, clips of any length, whole patches only. Clips beyond one minute are cut into chunks of
    one minute, because the bias of distances grows with the square of the length. The published embedding is the mean
    over all tokens; frames have the eight rows of patches folded into the features. A classifier becomes the head
    ``classifier``, with its sigmoid. In a padded batch the release masks tokens by groups of samples, so that
    embeddings differ a little from those of single clips; here a batch gives those of single clips.
    """

    name = "beats"
    reference = "BEATs, Chen et al. 2023, arXiv 2212.09058"

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether blocks have the gate of relative positions, behind a patch projection."""
        names = checkpoint.tensors.keys()
        gated = any(name.startswith("encoder.layers.") and ".self_attn.grep_" in name for name in names)
        return gated and any(name.startswith(("patch_embedding.", "encoder.pos_conv.")) for name in names)

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder; see the class."""
        options = _options(tensors, _released(checkpoint))
        state = _embedding(tensors, options) | _convolution(tensors, options)
        dim, width = options["dim"], options["dim"] // options["heads"]
        sizes = {"D": dim, "F": options["hidden"], "d": width, "8": 8}
        for block in range(options["depth"]):
            stem, root = f"encoder.layers.{block}.", f"trunk.blocks.{block}."
            for name, (to, letters) in BLOCK.items():
                shape = tuple(sizes[letter] for letter in letters)
                for part, size in (("weight", shape), ("bias", shape[:1])):
                    target = f"{root}{to}.{part}"
                    state[target] = tensors.take(f"{stem}{name}.{part}", size, target)
            scale = f"{root}gate_scale"
            state[scale] = tensors.take(f"{stem}self_attn.grep_a", (1, options["heads"], 1, 1), scale)
        state |= _distances(tensors, options)
        head = _classifier(tensors, dim, checkpoint)
        return ImportedEncoder(
            front_end={
                "name": "kaldi-fbank", "n_mels": MELS, "n_fft": 512, "f_min": 20.0, "window_shape": "povey",
                "gain": 2.0**15, "mean": MEAN, "std": STD, "std_factor": 2.0,
            },
            backbone={"name": "beats", **options},
            frames=CHUNK,
            weights=state,
            reading=ClipReading(CHUNK, partial_patch="dropped"),
            published="pooled",
            heads={"classifier": head} if head else {},
        )  # fmt: skip


def _released(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the stored settings, checked for what the backbone does not have.

    Raises:
        DataError: there are none, or they say something else than every release.
    """
    stored = checkpoint.setting("cfg")
    if not isinstance(stored, Mapping):
        raise DataError(
            f"{checkpoint.where}: has no cfg, which BEATs' largest distance and residual scale follow from",
            hint="give the file as released: a dictionary with 'cfg' and 'model'",
        )
    expected = {
        "layer_norm_first": False, "relative_position_embedding": True, "gru_rel_pos": True, "conv_bias": False,
        "activation_fn": "gelu",
    }  # fmt: skip
    for key, value in expected.items():
        if stored.get(key, value) != value:
            raise DataError(
                f"{checkpoint.where}: cfg.{key} is {stored[key]!r}; every release has {value!r}",
                hint="such a model is not supported",
            )
    return stored


def _options(tensors: CheckpointTensors, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the backbone: sizes from shapes, the rest from the stored settings."""
    layers = r"encoder\.layers\.\d+\."
    conv = {rf"encoder\.pos_conv\.0\.{name}": 2 for name in ("weight_v", "weight_g")}
    if tensors.has(r"encoder\.pos_conv\.0\.parametrizations\..*"):
        conv = {rf"encoder\.pos_conv\.0\.parametrizations\.weight\.original{number}": 2 for number in (1, 0)}
    dim = tensors.size("width", {layers + r"(self_attn_layer_norm|final_layer_norm)\.(weight|bias)": 0})
    narrow = {r"layer_norm\.(weight|bias)": 0, r"patch_embedding\.weight": 0, r"post_extract_proj\.weight": 1}
    groups = stored.get("conv_pos_groups")
    group = tensors.size("width of a group", {next(iter(conv)): 1}, dim // groups if groups else None)
    return {
        "dim": dim,
        "depth": tensors.count(r"encoder\.layers\.(\d+)\.", stored.get("encoder_layers")),
        "heads": tensors.size("number of heads", {layers + r"self_attn\.grep_a": 1}),
        "hidden": tensors.size("hidden width", {layers + r"fc1\.(weight|bias)": 0, layers + r"fc2\.weight": 1}),
        "patch_dim": tensors.size("width of patches", narrow),
        "patch": tensors.size("patch", {r"patch_embedding\.weight": -1}, stored.get("input_patch_size")),
        "conv_kernel": tensors.size("kernel of the convolution", conv, stored.get("conv_pos")),
        "conv_groups": max(1, dim // group),
        "buckets": tensors.size("number of buckets", {layers + r"self_attn\.relative_attention_bias\.weight": 0}),
        "max_distance": int(stored.get("max_distance", 1280)),
        "deep_norm": bool(stored.get("deep_norm", False)),
    }


def _embedding(tensors: CheckpointTensors, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take patch projection, its norm, the map to the width, and the norm before the blocks."""
    narrow, dim, patch = options["patch_dim"], options["dim"], options["patch"]
    why = "convolution as a linear map, its axes exchanged"
    weight = tensors.take("patch_embedding.weight", (narrow, 1, patch, patch), "proj.weight", why)
    state = {"proj.weight": weight.transpose(2, 3).flatten(1).contiguous()}
    if narrow != dim or tensors.has(r"post_extract_proj\..*"):
        for part, shape in (("weight", (dim, narrow)), ("bias", (dim,))):
            state[f"widen.{part}"] = tensors.take(f"post_extract_proj.{part}", shape, f"widen.{part}")
    state |= take_norm(tensors, "layer_norm", narrow, "patch_norm")
    return state | take_norm(tensors, "encoder.layer_norm", dim, "trunk.norm")


def _convolution(tensors: CheckpointTensors, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take the convolutional positions; the weight's norm, one for each kernel place, is multiplied in."""
    dim, kernel, stem = options["dim"], options["conv_kernel"], "encoder.pos_conv.0."
    norm, direction = "weight_g", "weight_v"
    if tensors.has(r"encoder\.pos_conv\.0\.parametrizations\..*"):  # as newer torch stores it
        norm, direction = "parametrizations.weight.original0", "parametrizations.weight.original1"
    why = "multiplied: g v / |v|, the norm over each place of the kernel"
    g = tensors.take(stem + norm, (1, 1, kernel), "trunk.conv.weight", why)
    shape = (dim, dim // options["conv_groups"], kernel)
    v = tensors.take(stem + direction, shape, "trunk.conv.weight", why)  # [D, D / groups, K]
    bias = tensors.take(f"{stem}bias", (dim,), "trunk.conv.bias")
    return {"trunk.conv.weight": g * v / v.norm(dim=(0, 1), keepdim=True), "trunk.conv.bias": bias}


def _distances(tensors: CheckpointTensors, options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take the table of the distances' bias, which every block of the file repeats."""
    shape, to = (options["buckets"], options["heads"]), "trunk.distance_bias.weight"
    name = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
    first = tensors.take(name.format(0), shape, to)
    # Files that store shared tensors once have the table in the first block only.
    repeated = any(name.format(block) in tensors for block in range(1, options["depth"]))
    for block in range(1, options["depth"] if repeated else 1):
        tensors.check(name.format(block), first)
    return {to: first}


def _classifier(tensors: CheckpointTensors, dim: int, checkpoint: Checkpoint) -> HeadSpec | None:
    """Return the classifier of a fine-tuned file: the mean of the tokens' logits, then a sigmoid."""
    if not tensors.has(r"predictor\..*"):
        return None
    classes = tensors.size("number of classes", {r"predictor\.weight": 0, r"predictor\.bias": 0})
    weights = {
        f"1.{part}": tensors.take(f"predictor.{part}", shape, f"heads.classifier.1.{part}")
        for part, shape in (("weight", (classes, dim)), ("bias", (classes,)))
    }
    labels = checkpoint.setting("label_dict", default={})
    names = tuple(str(labels[index]) for index in range(classes)) if set(range(classes)) <= set(labels) else ()
    # The mean of logits is the logit of the mean.
    layers = (
        {"layer": "mean"},
        {"layer": "linear", "in_features": dim, "out_features": classes},
        {"layer": "sigmoid"},
    )
    return HeadSpec("tokens", layers, weights, names)


@hookimpl
def ssl_wb_importers() -> list[type[Importer]]:
    """Offer this importer."""
    return [BeatsImporter]

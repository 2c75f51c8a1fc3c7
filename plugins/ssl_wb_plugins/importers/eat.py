"""EAT and SSLAM: fairseq files and the layout of the Hugging Face hub, pre-trained and fine-tuned."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ssl_wb.api import (
    Checkpoint,
    CheckpointTensors,
    ClipReading,
    Field,
    Grid,
    HeadSpec,
    ImportedEncoder,
    Importer,
    ImportOptions,
    assumed_heads,
    hookimpl,
    is_sincos,
    take_projection,
    take_vit,
    time_major_rows,
)

#: Mel bands, mean and deviation of AudioSet as EAT rounds them, and frames of the released models.
MELS, MEAN, STD, FRAMES = 128, -4.268, 4.569, 1024
#: Names in the two layouts: class token, patch projection, positions, norm before the first block.
FAIRSEQ = "modality_encoders.IMAGE."
LAYOUTS = {
    "fairseq": (
        f"{FAIRSEQ}extra_tokens",
        f"{FAIRSEQ}local_encoder.proj",
        f"{FAIRSEQ}fixed_positional_encoder.positions",
        f"{FAIRSEQ}context_encoder.norm",
    ),
    "hub": ("extra_tokens", "local_encoder.proj", "fixed_positional_encoder.positions", "pre_norm"),
}


class EatOptions(ImportOptions):
    """What a user may say of a file of EAT."""

    frames: int | None = Field(
        None, ge=16, description="Frames to which every clip is padded or cut; the file's target length, else 1024."
    )


class Eat(Importer):
    """EAT, and SSLAM, whose files have the same names: fairseq's and the hub's, pre-trained and fine-tuned.

    The encoder is the student, not the average (``_ema``) beside it. Every clip is padded, before normalisation, or cut
    to the target length, and the padding takes part. The published embedding is the class token. A classifier becomes
    the head ``classifier``.
    """

    name = "eat"
    reference = "EAT, Chen et al. 2024, arXiv 2401.03497; SSLAM, Alex et al. 2025, arXiv 2506.12222"
    Options = EatOptions

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether it has the names of one of the layouts."""
        names = checkpoint.tensors.keys()
        if any(name.startswith(FAIRSEQ) for name in names):
            return True
        stems = ("extra_tokens", "local_encoder.", "fixed_positional_encoder.", "pre_norm.")
        return sum(any(name.startswith(stem) for name in names) for stem in stems) >= 3

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder; see the class."""
        layout = "fairseq" if tensors.has(r"modality_encoders\..*") else "hub"
        token, projection, positions, first_norm = LAYOUTS[layout]
        stored = _settings(checkpoint)
        pre = bool(stored("layer_norm_first", default=False))
        state, sizes = take_vit(tensors, norm="norm" if pre else None, depth=stored("depth"))
        weights, patch = take_projection(tensors, sizes.dim, projection, time_first=True)
        state |= weights | {"cls_token": tensors.take(token, (1, 1, sizes.dim), "cls_token")}
        if not pre:
            for part in ("weight", "bias"):
                to = f"trunk.pre_norm.{part}"
                state[to] = tensors.take(f"{first_norm}.{part}", (sizes.dim,), to)
        heads, notes = assumed_heads(sizes.dim, self.options.heads, stored("num_heads"))
        vit: dict[str, Any] = {
            "name": "vit", "dim": sizes.dim, "depth": sizes.depth, "heads": heads,
            "mlp_ratio": sizes.hidden / sizes.dim, "patch": list(patch), "positions_first": "frequency",
            "norm": "pre" if pre else "post", "pre_norm": not pre, "final_norm": pre,
            "norm_eps": float(stored("norm_eps", default=1e-6)), "pool": "class", "init": "normal",
            "class_token_std": 1.0, "key_bias": sizes.key_bias,
        }  # fmt: skip
        longest = self._positions(tensors, (positions, projection), vit, state)
        frames = self.options.frames or _target_length(checkpoint, longest)
        eps = float(stored("norm_eps", default=1e-6)) if layout == "fairseq" else 1e-5
        classifier = _classifier(tensors, sizes.dim, eps)
        _leave(tensors)
        return ImportedEncoder(
            front_end=FRONT_END,
            backbone=vit,
            frames=longest if vit.get("positions") == "trainable" else frames,
            weights=state,
            reading=ClipReading(frames, padded_chunks=True, long_clips="cut"),
            published="clip-token",
            heads={"classifier": classifier} if classifier else {},
            notes=notes,
        )

    def _positions(
        self, tensors: CheckpointTensors, names: tuple[str, str], vit: dict[str, Any], state: dict[str, Tensor]
    ) -> int:
        """Take the position table; return the frames it reaches. A table that is not the fixed one is kept."""
        (name, projection), dim, patch = names, int(vit["dim"]), vit["patch"]
        rows = max(1, MELS // patch[0])
        table = tensors.take(name, (1, None, dim), "", "positions, by the backbone's table")[0]  # [N, D]
        columns, left = divmod(len(table), rows)
        if MELS % patch[0]:
            tensors.refuse(
                f"{projection}.weight", f"its patches are {patch[0]} mels high, which does not divide {MELS}"
            )
            return FRAMES
        if left or not columns:
            tensors.refuse(name, f"its {len(table)} rows are no whole number of columns of {rows} patches")
            return FRAMES
        grid = Grid(rows, columns)
        ours = time_major_rows(table, grid)  # [N, D]
        if not is_sincos(ours, grid, "frequency"):
            vit["positions"] = "trainable"
            state["position_table"] = ours[None]
        return columns * patch[1]


#: Kaldi's filter bank as EAT computes it; padded rows are log-mel 0 before normalisation.
FRONT_END: dict[str, Any] = {
    "name": "kaldi-fbank", "n_mels": MELS, "n_fft": 512, "f_min": 20.0, "subtract_mean": True, "pad": "zero",
    "mean": MEAN, "std": STD, "std_factor": 2.0,
}  # fmt: skip


def _settings(checkpoint: Checkpoint) -> Any:
    """Return a function that reads a model setting from fairseq's ``cfg`` or the hub's ``config.json``."""

    def stored(key: str, default: Any = None) -> Any:
        found = checkpoint.setting("cfg", "model", key)
        return checkpoint.setting("config", key, default=default) if found is None else found

    return stored


def _target_length(checkpoint: Checkpoint, longest: int) -> int:
    """Return the frames to which clips are padded or cut, at most what the position table reaches."""
    places = (
        ("cfg", "task", "target_length"),
        ("cfg", "model", "modalities", "image", "target_length"),
        ("config", "target_length"),
    )
    found = next((value for place in places if isinstance(value := checkpoint.setting(*place), int)), None)
    size = checkpoint.setting("config", "img_size")
    if found is None and isinstance(size, (list, tuple)) and size:
        found = int(size[0])
    return min(found or FRAMES, longest)


def _classifier(tensors: CheckpointTensors, dim: int, eps: float) -> HeadSpec | None:
    """Return the classifier of a fine-tuned file, which reads the class token; None where there is none."""
    if not tensors.has(r"head\..*"):
        return None
    classes = tensors.size("number of classes", {r"head\.weight": 0, r"head\.bias": 0})
    weights = {
        f"{number}.{part}": tensors.take(f"{name}.{part}", shape, f"heads.classifier.{number}.{part}")
        for number, name, part, shape in (
            (0, "fc_norm", "weight", (dim,)),
            (0, "fc_norm", "bias", (dim,)),
            (1, "head", "weight", (classes, dim)),
            (1, "head", "bias", (classes,)),
        )
    }
    layers = (
        {"layer": "layer-norm", "normalized_shape": dim, "eps": eps},
        {"layer": "linear", "in_features": dim, "out_features": classes},
    )
    return HeadSpec("clip-token", layers, weights)


def _leave(tensors: CheckpointTensors) -> None:
    """Leave over what is trained beside the encoder."""
    tensors.leave(r"(modality_encoders\.IMAGE\.)?decoder\..*", "the decoder of pre-training")
    tensors.leave(r"_ema\..*", "the average of the weights; EAT's own code reads the student")
    tensors.leave(r"(modality_encoders\.IMAGE\.)?(alibi_.*|mask_token|mask_emb)", "not used by the released models")


@hookimpl
def ssl_wb_importers() -> list[type[Importer]]:
    """Offer this importer."""
    return [Eat]

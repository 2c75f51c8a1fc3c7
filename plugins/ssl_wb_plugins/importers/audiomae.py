"""AudioMAE: pre-trained files and fine-tuned ones."""

from __future__ import annotations

from typing import Any

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
#: The released features are the mean over blocks with an index above this, counted from 0.
CONTEXT = 8


class AudioMaeOptions(ImportOptions):
    """What a user may say of a file of AudioMAE."""

    averaged_blocks: int | None = Field(
        None,
        ge=1,
        description="Last blocks whose normed outputs are averaged. Unless given, those after the ninth (3 of 12) of a "
        "pre-trained file, as the authors' features, and the last alone of a fine-tuned one.",
    )


class AudioMae(Importer):
    """AudioMAE: the encoder without its decoder of shifted windows.

    Every clip is padded or cut to the training length, and the padding takes part. The published embedding of a
    pre-trained file is the mean over patches of the last blocks' averaged outputs; of a fine-tuned one the mean over
    patches of the last block behind ``fc_norm``, and its classifier becomes the head ``classifier``. The position table
    is kept as stored: its axes are exchanged in AudioMAE's code, and it cannot be computed for another length.
    """

    name = "audiomae"
    reference = "AudioMAE, Huang et al. 2022, arXiv 2207.06405"
    Options = AudioMaeOptions
    # Asked after the others: a fine-tuned file has no name that is AudioMAE's alone.
    specificity = 0

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether it has AudioMAE's decoder, or MAE's names with a pooled classifier or a table of 128 mels."""
        names = checkpoint.tensors.keys()
        others = ("norm_pre.", "patch_embed.norm.", "student_encoder.", "target_", "audio_proj.", "init_bn.")
        if any(name.startswith(others) or name == "norm_stats" for name in names):
            return False
        if any(name.startswith("decoder_blocks.") and (".attn.tau" in name or ".meta_mlp." in name) for name in names):
            return True
        if not any(name.startswith("patch_embed.proj.") for name in names):
            return False
        if any(name.endswith(".q_bias") for name in names):
            return False
        table = checkpoint.tensors.get("pos_embed")
        cells = table.shape[1] - 1 if table is not None and table.dim() == 3 else 0
        return any(name.startswith("fc_norm.") for name in names) or cells in (512, 256, 64)

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder; see the class."""
        tuned = tensors.has(r"fc_norm\..*")
        encoder = take_mae(tensors, MELS, self.options.heads, norm=None if tuned else "norm", time_first=True)
        dim, depth = int(encoder.options["dim"]), int(encoder.options["depth"])
        # A small model has fewer blocks than the released threshold: its last block alone.
        blocks = self.options.averaged_blocks or (1 if tuned else depth - 1 - min(CONTEXT, max(0, depth - 2)))
        options: dict[str, Any] = encoder.options | {"averaged_blocks": max(1, blocks), "pool_norm": tuned}
        state = dict(encoder.weights)
        heads: dict[str, HeadSpec] = {}
        if tuned:
            state |= take_norm(tensors, "fc_norm", dim, "pool_norm")
            heads = _classifier(tensors, dim)
        tensors.leave(r"mask_token|decoder_.*", "the decoder of pre-training, of shifted windows")
        return ImportedEncoder(
            front_end={
                "name": "kaldi-fbank", "n_mels": MELS, "n_fft": 512, "f_min": 20.0, "subtract_mean": True,
                "pad": "zero", "mean": MEAN, "std": STD, "std_factor": 2.0,
            },
            backbone=options,
            frames=encoder.frames,
            weights=state,
            reading=ClipReading(encoder.frames, padded_chunks=True, long_clips="cut"),
            published="pooled",
            heads=heads,
            notes=encoder.notes,
        )  # fmt: skip


def _classifier(tensors: CheckpointTensors, dim: int) -> dict[str, HeadSpec]:
    """Return the classifier of a fine-tuned file."""
    classes = tensors.size("number of classes", {r"head\.weight": 0, r"head\.bias": 0})
    weights = {
        f"0.{part}": tensors.take(f"head.{part}", shape, f"heads.classifier.0.{part}")
        for part, shape in (("weight", (classes, dim)), ("bias", (classes,)))
    }
    layer = {"layer": "linear", "in_features": dim, "out_features": classes}
    return {"classifier": HeadSpec("pooled", (layer,), weights)}


@hookimpl
def ssl_wb_importers() -> list[type[Importer]]:
    """Offer this importer."""
    return [AudioMae]

"""MSM-MAE's first release (nttcslab/msm-mae)."""

from __future__ import annotations

from ssl_wb.api import (
    Checkpoint,
    CheckpointTensors,
    ClipReading,
    ImportedEncoder,
    Importer,
    hookimpl,
    take_mae,
)

#: Mel bands of the release.
MELS = 80


class MsmMae(Importer):
    """MSM-MAE's first release: no bias of keys, with or without class token.

    Each clip is normalised by the mean and deviation of its own log-mel values. The release takes those of the whole
    batch, so embeddings depend on batch mates there and not here; for one clip at a time they are equal. Every chunk
    is padded to the training length. Rows of the patch grid are folded into the features, as in M2D.
    """

    name = "msm-mae"
    reference = "MSM-MAE, Niizumi et al. 2022, arXiv 2204.12260"

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether blocks have biases of queries and values alone."""
        return any(name.startswith("blocks.") and name.endswith((".q_bias", ".v_bias")) for name in checkpoint.tensors)

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder; see the class."""
        # The decoder's table has a row for the class token too, so its absence is noticed by the number of rows.
        encoder = take_mae(tensors, MELS, self.options.heads, class_token="cls_token" in tensors)
        tensors.leave(r"mask_token|decoder_.*", "the decoder of pre-training")
        front_end = {
            "name": "log-mel",
            "n_mels": MELS,
            "center": True,
            "clip_statistics": True,
            "mean": 0.0,
            "std": 1.0,
        }
        return ImportedEncoder(
            front_end=front_end,
            backbone=encoder.options,
            frames=encoder.frames,
            weights=encoder.weights,
            reading=ClipReading(encoder.frames, padded_chunks=True),
            published="folded",
            notes=encoder.notes,
        )


@hookimpl
def ssl_wb_importers() -> list[type[Importer]]:
    """Offer this importer."""
    return [MsmMae]

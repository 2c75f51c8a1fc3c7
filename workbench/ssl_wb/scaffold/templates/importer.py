"""An importer: a published checkpoint of one system to a front end, a backbone and its weights."""

from __future__ import annotations

from ssl_wb.api import (
    Checkpoint,
    CheckpointTensors,
    ClipReading,
    ImportedEncoder,
    Importer,
    ImportOptions,
    hookimpl,
    take_mae,
)

#: Mel bands of the system.
MELS = 80


class NewPlugin(Importer):
    """Files of one system: the encoder of a masked autoencoder whose settings say ``system = "new-plugin"``."""

    name = "new-plugin"
    reference = ""
    Options = ImportOptions
    options: ImportOptions

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether the stored settings name the system."""
        return bool(checkpoint.setting("system") == "new-plugin")

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder; every tensor is taken, or left over with a reason."""
        del checkpoint
        encoder = take_mae(tensors, MELS, self.options.heads, class_token="cls_token" in tensors)
        tensors.leave(r"mask_token|decoder_.*", "the decoder of pre-training")
        return ImportedEncoder(
            front_end={"name": "log-mel", "n_mels": MELS, "mean": 0.0, "std": 1.0},
            backbone=encoder.options,
            frames=encoder.frames,
            weights=encoder.weights,
            reading=ClipReading(encoder.frames),
            published="folded",
            notes=encoder.notes,
        )


@hookimpl
def ssl_wb_importers() -> list[type[Importer]]:
    """Offer this importer."""
    return [NewPlugin]

"""MATPAC and MATPAC++: inference files and training files."""

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

#: Mel bands, and mean and deviation of the log-mel values of AudioSet.
MELS, MEAN, STD = 80, -7.056, 4.193


class Matpac(Importer):
    """MATPAC and MATPAC++: the student's encoder, of inference files and of fairseq's training files.

    Clips are cut into chunks of the training length, the last one shorter ("precise" mode); rows of the patch grid are
    folded into the features (5 x 768 = 3,840 values every 160 ms), and a clip's embedding is their mean over time.
    """

    name = "matpac"
    reference = "MATPAC, Quelennec et al. 2025, arXiv 2502.12031; MATPAC++, arXiv 2508.12709"

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether it has a student's encoder."""
        return any(name.startswith("student_encoder.") for name in checkpoint.tensors)

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder; see the class."""
        encoder = take_mae(
            tensors, MELS, self.options.heads, norm="student_encoder.norm", prefix="student_encoder.blocks."
        )
        self._leave(tensors)
        return ImportedEncoder(
            front_end={"name": "log-mel", "n_mels": MELS, "mean": MEAN, "std": STD},
            backbone=encoder.options,
            frames=encoder.frames,
            weights=encoder.weights,
            reading=ClipReading(encoder.frames),
            published="folded",
            notes=encoder.notes,
        )

    def _leave(self, tensors: CheckpointTensors) -> None:
        """Leave over what is trained beside the encoder."""
        tensors.leave(r"decoder\..*", "the predictor of pre-training")
        tensors.leave(r"mcl_heads\..*", "the hypotheses of pre-training")
        tensors.leave(r"cls_(student|teacher)_head\..*|cls_head_loss\..*", "the classifier of pre-training")
        tensors.leave(r"(_ema|_cls_head_ema|teacher_encoder)\..*", "the teacher; the student is the encoder")
        tensors.leave(r"head\..*|head_norm\..*|probe\..*", "a classifier that was trained on top")


@hookimpl
def ssl_wb_importers() -> list[type[Importer]]:
    """Offer this importer."""
    return [Matpac]

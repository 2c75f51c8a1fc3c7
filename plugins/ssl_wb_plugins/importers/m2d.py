"""M2D at 16 and 32 kHz, and MSM-MAE as M2D's repository writes it."""

from __future__ import annotations

import re
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
    MaeEncoder,
    hookimpl,
    is_sincos,
    take_mae,
    take_vit,
)

#: Mean and deviation where a file has none, as files of 2022.
FALLBACK_STATISTICS = (-7.1, 4.2)
#: Mel bands of every release of the family.
MELS = 80
#: A tensor of every block; MSM-MAE's first release has none of this name.
BLOCK = re.compile(r"blocks\.\d+\.attn\.qkv\.bias")
#: ``80x608p16x16p32k``: mels, frames, patch and, where it is not 16 kHz, the sample rate.
LABEL = re.compile(r"(?:^|[-_])80x(\d+)p(\d+)x(\d+)(?:p(16|32)k)?")


class M2dOptions(ImportOptions):
    """What a user may say of an M2D file."""

    norm_stats: list[float] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="Mean and deviation of the log-mel values, for a training file without them; M2D's own code takes "
        "[-7.1, 4.2] for files of 2022.",
    )

    sample_rate: int | None = Field(
        None, description="16000 or 32000, which no tensor tells; from the file's or folder's name, else 16000."
    )


def front_end_of(sample_rate: int, mean: float, std: float) -> dict[str, Any]:
    """Return the family's front end: centred log-mel of 80 bands, 25 ms every 10 ms."""
    window, hop = sample_rate // 40, sample_rate // 100
    return {
        "name": "log-mel", "sample_rate": sample_rate, "hop": hop, "n_mels": MELS, "window": window, "n_fft": window,
        "f_min": 50.0, "f_max": sample_rate / 2, "center": True, "mean": mean, "std": std,
    }  # fmt: skip


def is_m2d_encoder(checkpoint: Checkpoint) -> bool:
    """Whether the names are those of M2D's encoder.

    They are MAE's. What tells M2D is one of its own tensors or, in a file of the encoder alone, the position table,
    which is that of 80 mels, frequency-major.
    """
    tensors = checkpoint.tensors
    others = ("norm_pre.", "patch_embed.norm.", "student_encoder.", "modality_encoders.", "fc_norm.", "init_bn.")
    if any(name.startswith(others) for name in tensors) or not any(BLOCK.fullmatch(name) for name in tensors):
        return False
    if any(name == "norm_stats" or name.startswith(("target_", "audio_proj.", "text_proj.")) for name in tensors):
        return True
    patch, table = tensors.get("patch_embed.proj.weight"), tensors.get("pos_embed")
    if patch is None or table is None or patch.dim() != 4 or table.dim() != 3 or MELS % patch.shape[2]:
        return False
    rows = MELS // patch.shape[2]
    cells = table.shape[1] - 1
    # The table itself tells 80 mels from 128, where the number of rows alone may fit both.
    return cells > 0 and cells % rows == 0 and is_sincos(table[0, 1:].float(), Grid(rows, cells // rows))


class M2d(Importer):
    """M2D: encoders and training files of nttcslab/m2d, at 16 and 32 kHz, and MSM-MAE as that repository writes it.

    The encoder is the student: target blocks, decoder and offline predictors are left over. Clips are cut into chunks
    of the training length, the last one shorter; the rows of the patch grid are folded into the features (5 x 768 =
    3,840 values every 160 ms), and a clip's embedding is their mean over time.
    """

    name = "m2d"
    reference = "M2D, Niizumi et al. 2023, arXiv 2210.14648; MSM-MAE, arXiv 2204.12260"
    Options = M2dOptions

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether it has M2D's encoder and nothing of CLAP."""
        return is_m2d_encoder(checkpoint) and not _has_clap(checkpoint)

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder; see the class."""
        return read_m2d(checkpoint, tensors, self.options)


def _has_clap(checkpoint: Checkpoint) -> bool:
    return any(name.startswith(("audio_proj.", "text_proj.")) for name in checkpoint.tensors)


class M2dClap(Importer):
    """M2D-CLAP: the audio encoder and its projector into the space of captions, of 2024 and 2025.

    The projector of 2024 is an MLP, that of 2025 a semantic token that reads all patches. The encoder is M2D's. The
    projector becomes the head ``clap-audio``, which reads the latents of all patches of a clip; its output is not
    normalised to unit length. The text side is left over.
    """

    name = "m2d-clap"
    reference = "M2D-CLAP, Niizumi et al. 2024, arXiv 2406.02032; 2025, arXiv 2503.22104"
    Options = M2dOptions

    @classmethod
    def recognises(cls, checkpoint: Checkpoint) -> bool:
        """Whether it has M2D's encoder and a projector of CLAP."""
        return is_m2d_encoder(checkpoint) and _has_clap(checkpoint)

    def read(self, checkpoint: Checkpoint, tensors: CheckpointTensors) -> ImportedEncoder:
        """Map the encoder and the audio projector; see the class."""
        head = _clap_head(tensors)
        tensors.leave(r"text_(proj|encoder)\..*", "the text side of CLAP")
        tensors.leave(r"logit_scale", "temperature of CLAP's loss")
        return read_m2d(checkpoint, tensors, self.options, {"clap-audio": head} if head else {})


def _clap_head(tensors: CheckpointTensors) -> HeadSpec | None:
    """Return the audio projector; None where the file has none, and audio needs none."""
    if tensors.has(r"audio_proj\.sem_.*"):
        return _semantic_head(tensors)
    if not tensors.has(r"audio_proj\..*"):
        return None
    width = tensors.size("width", {"norm.weight": 0, "cls_token": 2, r"audio_proj\.0\.weight": 1})
    hidden = tensors.size(
        "hidden width of audio_proj", {r"audio_proj\.0\.(weight|bias)": 0, r"audio_proj\.2\.weight": 1}
    )
    out = tensors.size("width of audio_proj", {r"audio_proj\.2\.(weight|bias)": 0})
    weights: dict[str, Tensor] = {}
    for number, to, shape in ((0, 1, (hidden, width)), (2, 3, (out, hidden))):
        for part, size in (("weight", shape), ("bias", shape[:1])):
            name = f"{to}.{part}"
            weights[name] = tensors.take(f"audio_proj.{number}.{part}", size, f"heads.clap-audio.{name}")
    layers = (
        {"layer": "mean"},
        {"layer": "linear", "in_features": width, "out_features": hidden},
        {"layer": "relu"},
        {"layer": "linear", "in_features": hidden, "out_features": out},
    )
    return HeadSpec("tokens", layers, weights)


def _semantic_head(tensors: CheckpointTensors) -> HeadSpec:
    """Return the projector of 2025: a token that reads all patches through blocks of one head."""
    root = "heads.clap-audio."
    state, sizes = take_vit(tensors, norm="audio_proj.norm", prefix="audio_proj.sem_blocks.", to=f"{root}0.")
    weights = {name.removeprefix(root): value for name, value in state.items()}
    weights["0.token"] = tensors.take("audio_proj.sem_token", (1, 1, sizes.dim), f"{root}0.token")
    layer = {"layer": "semantic-token", "dim": sizes.dim, "depth": sizes.depth, "hidden": sizes.hidden, "eps": 1e-5}
    return HeadSpec("tokens", (layer,), weights)


def read_m2d(
    checkpoint: Checkpoint, tensors: CheckpointTensors, options: Any, heads: dict[str, HeadSpec] | None = None
) -> ImportedEncoder:
    """Map an encoder of M2D's family.

    Args:
        checkpoint: the file.
        tensors: its tensors.
        options: of the importer.
        heads: what was taken already.
    """
    encoder = take_mae(tensors, MELS, options.heads)
    notes = list(encoder.notes)
    if encoder.options.get("positions") == "trainable":
        notes.append("pos_embed is not the sine-cosine table of M2D: it was trained, and is kept")
    rate, frames = _rate_and_frames(checkpoint, options.sample_rate, encoder, notes)
    mean, std = _statistics(tensors, options.norm_stats, notes)
    _leave(tensors)
    return ImportedEncoder(
        front_end=front_end_of(rate, mean, std),
        backbone=encoder.options,
        frames=encoder.frames,
        weights=encoder.weights,
        reading=ClipReading(frames),
        published="folded",
        heads=heads or {},
        notes=tuple(notes),
    )


def _statistics(tensors: CheckpointTensors, given: list[float] | None, notes: list[str]) -> tuple[float, float]:
    """Return the mean and deviation of the log-mel values.

    Every training file has them since 2023. Encoders alone, as released in 2022, have none, and a fixed pair.
    """
    alone = not tensors.has(r"(decoder_|target_|audio_proj|text_proj|mask_token).*")
    if "norm_stats" not in tensors and (given or alone):
        mean, std = given or FALLBACK_STATISTICS
        notes.append(f"no norm_stats in the file: mean {mean:g} and deviation {std:g} taken")
    else:
        mean, std = tensors.take("norm_stats", (2,), "front_end.mean, front_end.std").tolist()
    if std <= 0 and "norm_stats" in tensors:
        tensors.refuse("norm_stats", f"the deviation {std:g} is not above 0")
    return mean, std if std > 0 else 1.0


def _rate_and_frames(
    checkpoint: Checkpoint, given: int | None, encoder: MaeEncoder, notes: list[str]
) -> tuple[int, int]:
    """Return the sample rate and the frames of a chunk: neither is in the tensors, the name has both."""
    rate, frames, patch = given, encoder.frames, tuple(encoder.options["patch"])
    for label in checkpoint.labels:
        found = LABEL.search(label)
        # A name counts only if it fits the tensors: files are renamed.
        if found and int(found[1]) // patch[1] == encoder.grid.time and (int(found[2]), int(found[3])) == patch:
            frames = int(found[1])
            rate = rate or (int(found[4]) * 1000 if found[4] else 16000)
            break
    if rate is None:
        notes.append("16 kHz assumed, which no tensor tells; --set sample_rate=32000 for a 32 kHz file")
    return rate or 16000, frames


def _leave(tensors: CheckpointTensors) -> None:
    """Leave over what the family trains beside the encoder."""
    tensors.leave(r"target_(blocks|norm)\..*", "the teacher; the student is the encoder")
    tensors.leave(r"mask_token|decoder_.*", "the decoder of pre-training")
    tensors.leave(r"offline_predictor\..*|offline_.*", "the predictor of an offline teacher (M2D-X)")
    tensors.leave(r"head\..*|head_norm\..*|fc_norm\..*", "a classifier that was trained on top")
    tensors.leave(r"ar\..*", "the front end of the evaluation package")


@hookimpl
def ssl_wb_importers() -> list[type[Importer]]:
    """Offer the importers of the family."""
    return [M2d, M2dClap]

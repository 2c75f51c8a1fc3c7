"""HEAR API of the encoder in this folder (hearbenchmark.com/hear-api.html); needs ssl-wb."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ssl_wb.encoder.load import load_encoder

__all__ = ["HearModel", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]


class HearModel(nn.Module):
    """The encoder with the attributes that HEAR asks for.

    Args:
        folder: an encoder folder.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.encoder = load_encoder(folder)
        self.sample_rate: int = self.encoder.sample_rate
        self.scene_embedding_size: int = self.encoder.clip_dim
        self.timestamp_embedding_size: int = self.encoder.dim


def load_model(model_file_path: str | Path = "") -> HearModel:
    """Load the encoder.

    Args:
        model_file_path: an encoder folder, or a file in it; the folder of this module when empty.
    """
    place = Path(model_file_path or __file__)
    return HearModel(place.parent if place.is_file() else place)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """Embed clips ``[B, S]`` of full scale 1 as float32 ``[B, D]``."""
    return model.encoder.embed_clip(audio)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Embed clips ``[B, S]`` frame by frame: float32 ``[B, T, D]``, and the centre of each frame in ms ``[B, T]``.

    The times are regular and inside the clip, as HEAR asks. A frame whose centre is after the clip's end is left out;
    of a clip shorter than that the first frame stands for its middle. Encoders whose chunks are no whole number of
    frames give their nearest frame at each time.
    """
    seconds = audio.shape[1] / model.sample_rate
    own = torch.tensor(model.encoder.frame_times(audio.shape[1]), dtype=torch.float64)  # [columns], seconds
    count = max(1, int((seconds - float(own[0])) / model.encoder.hop_seconds) + 1)
    times = own[0] + model.encoder.hop_seconds * torch.arange(count, dtype=torch.float64)  # [T]
    times = times[times < seconds] if bool(own[0] < seconds) else torch.tensor([seconds / 2], dtype=torch.float64)
    nearest = (own[None, :] - times[:, None]).abs().argmin(dim=1)  # [T]
    frames = model.encoder.embed_frames(audio)[:, nearest.to(audio.device)]  # [B, T, D]
    return frames, (1000 * times).float().to(audio.device).expand(len(audio), -1)

"""Model of this folder for the audio tasks of mteb (MAEB, arXiv 2602.16008); needs ssl-wb and mteb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mteb.models import ModelMeta
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.modality_collators import AudioCollator

from ssl_wb.encoder.load import load_encoder

__all__ = ["SslWbModel", "load_model", "model_meta"]


class SslWbModel(AbsEncoder):
    """The encoder as mteb calls it: an embedding for each clip, which does not depend on the rest of its batch.

    Args:
        model_name: an encoder folder; the folder of this file unless given.
        revision: not used; mteb passes it.
        device: where it computes; CUDA where there is one unless given.
        **kwargs: not used; mteb passes them.
    """

    def __init__(
        self,
        model_name: str | Path | None = None,
        revision: str | None = None,
        device: str | None = None,
        **kwargs: Any,
    ) -> None:
        del revision, kwargs
        folder = Path(model_name) if model_name is not None and Path(model_name).is_dir() else Path(__file__).parent
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_encoder(folder, device=self.device)
        self.sampling_rate = self.model.sample_rate
        self.mteb_model_meta = model_meta(folder)

    def encode(self, inputs: Any, **kwargs: Any) -> np.ndarray:
        """Embed the clips of a data loader as float32 ``[clips, D]``.

        Args:
            inputs: yields batches with a list ``audio``, each ``{"array": [S], "sampling_rate": ...}``.
            **kwargs: metadata of the task, which change nothing.
        """
        del kwargs
        inputs.collate_fn = AudioCollator(target_sampling_rate=self.sampling_rate)
        found: list[np.ndarray] = []
        for batch in inputs:
            clips = [
                torch.as_tensor(np.asarray(audio["array"], dtype=np.float32)).flatten() for audio in batch["audio"]
            ]
            waveform = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)  # [B, S]
            lengths = torch.tensor([len(clip) for clip in clips])  # [B]
            found.append(self.model.embed_clip(waveform, lengths).cpu().numpy())  # [B, D]
        return np.concatenate(found)


def model_meta(folder: str | Path | None = None) -> ModelMeta:
    """Return what mteb wants to know of the model, from the folder's ``config.json``.

    Args:
        folder: an encoder folder; the folder of this file unless given.
    """
    place = Path(folder or Path(__file__).parent)
    config = json.loads((place / "config.json").read_text(encoding="utf-8"))
    return ModelMeta(
        loader=SslWbModel,
        name=f"ssl-wb/{place.absolute().name}",
        revision=str(config.get("source", {}).get("revision") or "local"),
        release_date=None,
        languages=None,
        modalities=["audio"],
        n_parameters=config["parameters"],
        n_embedding_parameters=0,
        memory_usage_mb=round(config["parameters"] * 4 / 2**20),
        max_tokens=float("inf"),
        embed_dim=config["width"],
        license=config.get("licence"),
        open_weights=True,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None,
    )


def load_model(folder: str | Path | None = None, device: str | None = None) -> SslWbModel:
    """Load the model, for ``mteb.evaluate(load_model(), tasks)``."""
    return SslWbModel(folder, device=device)

"""Example: train the connector so that the mean token of a clip is the sentence embedding of its caption.

``python train_connector.py CLIPS.csv [SENTENCE_TRANSFORMER]`` with columns ``path`` and ``caption``. Without a model
of sentence-transformers, captions are embedded as bags of words with random signs, which is enough to see the loss
fall.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_wb.encoder.carried.connector import AudioTokens

__all__ = ["embed_captions", "main", "read_clips", "train"]


def embed_captions(captions: list[str], model: str | None, width: int) -> Tensor:
    """Return frozen sentence embeddings ``[B, width]``: of a model, cut or padded to the width, or bags of words."""
    if model is not None:
        from sentence_transformers import SentenceTransformer

        found = torch.as_tensor(SentenceTransformer(model).encode(captions))[:, :width].float()
        return F.pad(found, (0, width - found.shape[1]))
    vectors = torch.zeros(len(captions), width)
    for row, caption in enumerate(captions):
        for word in caption.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
            vectors[row] += torch.randn(width, generator=torch.Generator().manual_seed(seed)).sign()
    return vectors


def read_clips(file: Path, sample_rate: int) -> tuple[list[Tensor], list[str]]:
    """Read the clips of a manifest, ``[S]`` each, and their captions."""
    from ssl_wb.api import read_audio

    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    return [torch.from_numpy(read_audio(file.parent / row["path"], sample_rate)) for row in rows], [
        row["caption"] for row in rows
    ]


def train(model: AudioTokens, clips: list[Tensor], targets: Tensor, steps: int = 200, batch: int = 16) -> list[float]:
    """Train the connector and return the loss of every step: 1 less the cosine of mean token and target.

    Args:
        model: encoder and connector.
        clips: waveforms ``[S]``.
        targets: ``[clips, width]``.
        steps: updates.
        batch: clips of a step.
    """
    optimiser = torch.optim.AdamW(model.connector.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    model.train()
    losses = []
    for _ in range(steps):
        chosen = torch.randperm(len(clips), generator=generator)[:batch]
        waveform = torch.nn.utils.rnn.pad_sequence([clips[number] for number in chosen], batch_first=True)  # [B, S]
        lengths = torch.tensor([len(clips[number]) for number in chosen])
        tokens, own = model(waveform, lengths)  # [B, N, width], [B, N]
        mean = tokens.sum(dim=1) / own.sum(dim=1, keepdim=True)
        loss = (1.0 - F.cosine_similarity(mean, targets[chosen])).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def main(arguments: list[str]) -> list[float]:
    """Read, train, save, and print first and last loss."""
    model = AudioTokens()
    clips, captions = read_clips(Path(arguments[0]), model.sample_rate)
    targets = embed_captions(captions, arguments[1] if len(arguments) > 1 else None, model.connector.proj.out_features)
    losses = train(model, clips, targets)
    model.save()
    sys.stdout.write(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; saved in {model.folder}\n")
    return losses


if __name__ == "__main__":
    main(sys.argv[1:])

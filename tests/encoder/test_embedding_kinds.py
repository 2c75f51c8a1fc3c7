"""The embedding of a clip: published, folded, frames, class token or pooled, of own runs and imported encoders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

from imported import only, waveforms
from ssl_wb import load_encoder
from ssl_wb.cli.main import run as command
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.load import encoder_parts
from ssl_wb.errors import UsageError
from ssl_wb.evaluation.embedding_cache import encoder_digest
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.front_ends.log_mel import LogMel

RUN = Path(__file__).parents[1] / "fixtures" / "run-0.1"


def encoder(kind: str, **options: object) -> FrozenEncoder:
    torch.manual_seed(0)
    backbone = Vit(VitOptions(dim=16, depth=2, heads=2, **options), 80)
    return FrozenEncoder(LogMel(LogMel.Options(), -7.0, 4.0), backbone, 64, embedding=kind)


def clips(*seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([int(16000 * one) for one in seconds])
    return 0.1 * torch.randn(len(lengths), int(lengths.max()), generator=torch.Generator().manual_seed(1)), lengths


def test_folded_is_the_mean_over_frames_and_frames_averages_its_rows():
    waveform, lengths = clips(2.0, 1.3)
    folded, frames = encoder("folded"), encoder("frames")
    wide, narrow = folded.embed_frames(waveform, lengths), frames.embed_frames(waveform, lengths)
    assert_close(wide.unflatten(2, (5, 16)).mean(dim=2), narrow)
    assert_close(frames.embed_clip(waveform, lengths), folded.embed_clip(waveform, lengths).view(2, 5, 16).mean(dim=1))
    assert (folded.dim, folded.clip_dim, frames.dim, frames.clip_dim) == (80, 80, 16, 16)
    assert (folded.pooling, frames.pooling) == ("mean", "mean of averaged rows")


@pytest.mark.parametrize(("kind", "pool"), [("clip-token", "class"), ("pooled", "patches"), ("pooled", "all")])
def test_chunks_of_a_clip_are_averaged_by_their_length(kind, pool):
    whole = encoder(kind, pool=pool)
    waveform, _ = clips(0.95)  # 94 frames: one chunk of 64, one of 30, which is padded to 32
    spectrogram, _ = whole.front_end(waveform)  # [1, F, T]
    assert spectrogram.shape[2] == 93
    from ssl_wb.layers.patches import patchify
    from ssl_wb.plugin.masker import Grid

    padded = torch.nn.functional.pad(spectrogram, (0, 3))
    vectors = []
    with torch.no_grad():
        for piece in (padded[..., :64], padded[..., 64:]):
            grid = Grid(5, piece.shape[2] // 16)
            latents = whole.backbone(whole.backbone.embed(patchify(piece, (16, 16)), grid))
            vectors.append(latents[:, 0] if kind == "clip-token" else whole.backbone.pool(latents))
    expected = (4 * vectors[0] + 2 * vectors[1]) / 6
    assert_close(whole.embed_clip(waveform), expected)
    assert whole.clip_dim == 16
    assert whole.pooling == kind


@pytest.mark.parametrize("kind", ["folded", "frames", "clip-token", "pooled"])
def test_a_padded_batch_gives_what_each_clip_gives(kind):
    waveform, lengths = clips(2.2, 0.4, 1.0)
    whole = encoder(kind)
    together = whole.embed_clip(waveform, lengths)
    for row, length in enumerate(lengths):
        assert_close(together[row], whole.embed_clip(waveform[row : row + 1, :length])[0], rtol=1e-4, atol=1e-5)


def test_published_is_what_the_recipe_of_a_run_says(tmp_path):
    run = shutil.copytree(RUN, tmp_path / "run")
    assert load_encoder(run).kind == "folded"
    with (run / "recipe.resolved.toml").open("a") as file:
        file.write('\n[encoder]\nembedding = "frames"\nfine_tuned = "clip-token"\n')
    found, exported = load_encoder(run), encoder_parts(run)
    assert (found.kind, found.fine_tuned) == ("frames", "clip-token")
    assert (exported.published, exported.fine_tuned) == ("frames", "clip-token")


def test_published_is_what_the_importer_says_and_the_others_can_be_chosen():
    path, waveform = only("inference_eat_fairseq.pt")[0], waveforms()["clip_0"]
    published = load_encoder(path).embed_clip(waveform)
    assert_close(load_encoder(path, embedding="clip-token").embed_clip(waveform), published)
    widths = {
        kind: load_encoder(path, embedding=kind).embed_clip(waveform).shape[1]
        for kind in ("folded", "frames", "pooled")
    }
    dim = published.shape[1]
    assert widths == {"folded": 8 * dim, "frames": dim, "pooled": dim}
    assert load_encoder(RUN).kind == "folded"
    assert load_encoder(path).fine_tuned == "clip-token"  # what the evaluator fine-tune puts its head on
    assert load_encoder(RUN, embedding="pooled").embed_clip(waveform).shape == (1, 32)


def test_cached_embeddings_of_one_kind_are_not_taken_for_another():
    assert len({encoder_digest(encoder(kind)) for kind in ("folded", "frames", "clip-token", "pooled")}) == 4
    assert encoder_digest(encoder("published")) == encoder_digest(encoder("folded"))


def test_kinds_that_there_are_not_are_refused():
    with pytest.raises(UsageError, match="did you mean 'folded'"):
        load_encoder(RUN, embedding="folder")
    with pytest.raises(UsageError, match="no class token"):
        encoder("clip-token", class_token=False)


def test_embed_chooses_the_embedding(tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(20_000), 16000)
    words = [str(RUN), str(tmp_path / "a.wav"), "--out", str(tmp_path / "a.npz"), "--embedding", "frames"]
    assert command(["embed", *words]) == 0
    with np.load(tmp_path / "a.npz") as found:
        assert found["embedding"].shape == (1, 32)
    assert command(["embed", "python:os:getcwd", *words[1:], "--overwrite"]) == 2
    assert "--embedding frames" in capsys.readouterr().err

"""Every importer gives the authors' numbers: front end, every block, embeddings and heads."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from imported import CLIPS, OLDER, imported, only, passes, recorded, time_major_input, waveforms
from ssl_wb.layers.patches import patchify
from ssl_wb.plugin.masker import Grid

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
#: nnAudio's filter bank is computed in float32 by another formula: 1.5e-4 in the log-mel values of near silence.
MEL = {"rtol": 1e-5, "atol": 2e-4}
#: Values that were recorded in half precision.
HALF = {"rtol": 2e-3, "atol": 2e-3}


def test_matpac():
    values, encoder = recorded("tiny_matpac_io", OLDER), imported(OLDER / "tiny_matpac.pt")
    waveform = values["waveform"]
    assert_close(encoder.front_end(waveform)[0], values["log_mel_normalised"], **CLOSE)
    assert_close(encoder.embed_frames(waveform), values["embedding_time"], **CLOSE)
    assert_close(encoder.layers(waveform), values["layers_time"], **CLOSE)
    assert_close(encoder.embed_clip(waveform), values["embedding_time"].mean(dim=1), **CLOSE)
    assert encoder.published == "folded"
    assert encoder.hop_seconds == pytest.approx(0.16)


def test_matpac_from_a_training_file_is_its_student():
    encoder = imported(OLDER / "tiny_matpac_pretraining.pt")
    state = torch.load(OLDER / "tiny_matpac_pretraining.pt", weights_only=True)
    state = state.get("model", state)
    key = "blocks.0.attn.qkv.weight"
    assert_close(encoder.backbone.state_dict()[f"trunk.{key}"], state[f"student_encoder.{key}"])


def test_m2d():
    values = recorded("tiny_m2d_io", OLDER)
    encoder = imported(next(OLDER.glob("m2d_vit_base-*")))
    waveform = values["waveform"]
    assert_close(encoder.front_end(waveform)[0], values["log_mel_normalised"][0], **MEL)
    assert_close(encoder.embed_frames(waveform), values["embedding_time"], **CLOSE)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(
    ("pattern", "name"),
    [("m2d_clap_vit_base-*p16x16-*", "mlp"), ("m2d_clap_vit_base-*kpB-*", "sem")],
    ids=["mlp of 2024", "semantic token of 2025"],
)
def test_m2d_clap(clip, pattern, name):
    (place,) = only(f"inference_m2d_clap/{pattern}")
    values, encoder, waveform = recorded(f"inference_m2d_clap_{name}_io"), imported(place), waveforms()[clip]
    assert_close(encoder.embed_frames(waveform)[0], values[f"{clip}.frame_embedding"], **CLOSE)
    assert_close(encoder.embed_clip(waveform)[0], values[f"{clip}.clip_embedding"], **CLOSE)
    assert_close(encoder.apply_head("clap-audio", waveform)[0], values[f"{clip}.clap_audio"], **CLOSE)
    if f"{clip}.log_mel_normalised" in values:
        assert_close(encoder.front_end(waveform)[0][0], values[f"{clip}.log_mel_normalised"], **MEL)
    if f"{clip}.first_chunk_layers" in values:
        first = passes(encoder, waveform)[0]
        assert_close(torch.stack(first.blocks)[:, 0], values[f"{clip}.first_chunk_layers"], **CLOSE)


@pytest.mark.parametrize("clip", CLIPS)
def test_msm_mae_first_release(clip):
    values, waveform = recorded("inference_msm_mae_io"), waveforms()[clip]
    encoder = imported(only("inference_msm_mae/*")[0])
    assert_close(encoder.embed_frames(waveform)[0], values[f"{clip}.frame_embedding"], rtol=1e-4, atol=5e-5)
    assert_close(encoder.embed_clip(waveform)[0], values[f"{clip}.clip_embedding"], **CLOSE)
    if f"{clip}.layers" in values:
        assert_close(encoder.layers(waveform)[0], values[f"{clip}.layers"], rtol=1e-4, atol=5e-5)
        assert_close(encoder.front_end.log_mel(waveform)[0][0], values[f"{clip}.log_mel"], **MEL)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(
    ("place", "name"),
    [("inference_eat_fairseq.pt", "eat"), ("inference_sslam_fairseq.pt", "sslam"), ("inference_eat_hf", "eat")],
)
def test_eat_and_sslam(clip, place, name):
    values, encoder, waveform = recorded(f"inference_{name}_io"), imported(only(place)[0]), waveforms()[clip]
    (one,) = passes(encoder, waveform)
    assert_close(one.time_major(one.latents, 1), values[f"{clip}.all"], **CLOSE)
    assert_close(encoder.embed_clip(waveform)[0], values[f"{clip}.utterance"], **CLOSE)
    spectrogram = time_major_input(encoder, waveform)
    if f"{clip}.layers" in values:
        blocks = torch.stack([one.time_major(values_, 1) for values_ in one.blocks[:-1]])
        assert_close(blocks, values[f"{clip}.layers"], **CLOSE)
    if f"{clip}.input_valid" in values:
        assert_close(spectrogram, values[f"{clip}.input_valid"], **CLOSE)
        assert_close(encoder.front_end.pad_value, values[f"{clip}.input_padding_value"], **CLOSE)
    else:
        assert_close(spectrogram[:64], values[f"{clip}.input_head"], **CLOSE)


@pytest.mark.parametrize("clip", CLIPS)
def test_audiomosaic_of_the_hub(clip):
    values, waveform = recorded("inference_audiomosaic_hf_io"), waveforms()[clip]
    encoder = imported(only("inference_audiomosaic_hf")[0])
    (one,) = passes(encoder, waveform)
    assert_close(one.time_major(one.latents, 1), values[f"{clip}.toks"], **CLOSE)
    assert_close(encoder.embed_clip(waveform)[0], values[f"{clip}.f"], **CLOSE)
    assert_close(encoder.apply_head("projector", waveform)[0], values[f"{clip}.z"], **CLOSE)
    spectrogram = time_major_input(encoder, waveform)
    if f"{clip}.layers" in values:
        blocks = torch.stack([one.time_major(values_, 1) for values_ in one.blocks])
        assert_close(blocks, values[f"{clip}.layers"], **CLOSE)
        assert_close(spectrogram, values[f"{clip}.input_valid"], **CLOSE)
    else:
        assert_close(spectrogram[:64], values[f"{clip}.input_head"], **CLOSE)


@pytest.mark.parametrize("clip", CLIPS)
def test_audiomosaic_classifier(clip):
    values = recorded("inference_audiomosaic_hf_classifier_io")
    encoder = imported(only("inference_audiomosaic_hf_classifier")[0])
    assert_close(encoder.apply_head("classifier", waveforms()[clip])[0], values[f"{clip}.logits"], **CLOSE)


def test_audiomosaic_training_file():
    values, encoder = recorded("tiny_audiomosaic_io", OLDER), imported(OLDER / "tiny_audiomosaic.pt")
    grid = Grid(8, len(values["input"]) // 16)
    with torch.no_grad():
        tokens = encoder.backbone.embed(patchify(values["input"].T[None], (16, 16)), grid)
        latents = encoder.backbone(tokens)
        pooled = encoder.backbone.pool(latents)
        assert_close(pooled, values["pooled"], **CLOSE)
        assert_close(encoder.heads["projector"](pooled), values["projected"], **CLOSE)
    # Trained with twice the deviation, unlike what the hub's folders do.
    assert encoder.front_end.options.std_factor == 2.0


@pytest.mark.parametrize("clip", CLIPS)
def test_beats(clip):
    values, waveform = recorded("inference_beats_io"), waveforms()[clip]
    encoder = imported(only("inference_beats.pt")[0])
    (one,) = passes(encoder, waveform)
    assert_close(one.time_major(one.latents, 0), values[f"{clip}.embedding"], **CLOSE)
    assert_close(encoder.embed_clip(waveform)[0], values[f"{clip}.embedding"].mean(dim=0), **CLOSE)
    spectrogram = time_major_input(encoder, waveform)
    if f"{clip}.layers" in values:
        blocks = torch.stack([one.time_major(values_, 0) for values_ in one.blocks])
        assert_close(blocks, values[f"{clip}.layers"], **CLOSE)
        assert_close(spectrogram, values[f"{clip}.fbank"], **CLOSE)
    else:
        assert_close(spectrogram[:64], values[f"{clip}.fbank_head"], **CLOSE)
    tuned = imported(only("inference_beats_finetuned.pt")[0])
    probabilities = tuned.apply_head("classifier", waveform)[0]
    assert_close(probabilities, values[f"finetuned.{clip}.probabilities"], **CLOSE)


@pytest.mark.parametrize("clip", CLIPS)
def test_audiomae(clip):
    values, waveform = recorded("inference_audiomae_io"), waveforms()[clip]
    encoder = imported(only("inference_audiomae_pretrained.pt")[0])
    (one,) = passes(encoder, waveform)
    assert_close(one.time_major(one.latents, 1), values[f"{clip}.contextual"], **CLOSE)
    spectrogram = time_major_input(encoder, waveform)
    if f"{clip}.layers" in values:
        last = encoder.backbone.trunk.final_norm(one.blocks[-1])
        assert_close(one.time_major(last, 1), values[f"{clip}.last_normed"], **CLOSE)
        blocks = torch.stack([one.time_major(values_, 1) for values_ in one.blocks])
        assert_close(blocks, values[f"{clip}.layers"].float(), **HALF)
        assert_close(spectrogram, values[f"{clip}.input_valid"], **CLOSE)
        assert_close(encoder.front_end.pad_value, values[f"{clip}.input_padding_value"], **CLOSE)
    else:
        assert_close(spectrogram[:64], values[f"{clip}.input_head"], **CLOSE)
    tuned = imported(only("inference_audiomae_finetuned.pt")[0])
    assert_close(tuned.embed_clip(waveform)[0], values[f"{clip}.clip_embedding_finetune_class"], **CLOSE)
    assert_close(tuned.apply_head("classifier", waveform)[0], values[f"{clip}.logits"], **CLOSE)


@pytest.mark.parametrize("clip", CLIPS)
def test_dasheng(clip):
    values, waveform = recorded("inference_dasheng_io"), waveforms()[clip]
    encoder = imported(only("inference_dasheng.pt")[0])
    assert_close(encoder.embed_frames(waveform)[0], values[f"{clip}.frame_embedding"], **CLOSE)
    assert_close(encoder.embed_clip(waveform)[0], values[f"{clip}.clip_embedding_mean"], **CLOSE)
    if f"{clip}.mel_db" in values:
        assert_close(encoder.front_end.log_mel(waveform)[0][0], values[f"{clip}.mel_db"], **CLOSE)
        assert_close(encoder.front_end(waveform)[0][0], values[f"{clip}.input"].float(), **HALF)
    if f"{clip}.first_chunk_layers" in values:
        first = passes(encoder, waveform)[0]
        assert_close(torch.stack(first.blocks)[:, 0], values[f"{clip}.first_chunk_layers"], **CLOSE)


@pytest.mark.parametrize(
    "place",
    ["inference_eat_fairseq.pt", "inference_beats.pt", "inference_dasheng.pt", "inference_audiomosaic_hf"],
)
def test_a_batch_of_different_lengths_equals_one_by_one(place):
    encoder = imported(only(place)[0])
    first, second = waveforms().values()
    batch = torch.zeros(2, max(first.shape[1], second.shape[1]))
    batch[0, : first.shape[1]], batch[1, : second.shape[1]] = first[0], second[0]
    lengths = torch.tensor([first.shape[1], second.shape[1]])
    together = encoder.embed_clip(batch, lengths)
    assert_close(together, torch.cat([encoder.embed_clip(first), encoder.embed_clip(second)]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", ["inference_eat_fairseq.pt", "inference_beats.pt", "inference_dasheng.pt"])
@pytest.mark.parametrize("samples", [1, 159, 400, 2559, 16000, 200_001])
def test_clips_of_any_length_have_finite_embeddings_and_the_frames_that_are_told(place, samples):
    encoder = imported(only(place)[0])
    waveform = 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
    assert bool(encoder.embed_clip(waveform).isfinite().all())
    assert encoder.embed_frames(waveform).shape[1] == encoder.columns_of(samples)

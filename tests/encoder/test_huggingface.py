"""Audio models of transformers as encoders: small ones with random weights, written to a folder."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from ssl_wb.encoder.external import check_external, load_external
from ssl_wb.errors import UsageError
from ssl_wb.evaluation.embedding_cache import encoder_digest

transformers = pytest.importorskip("transformers", reason="needs ssl-wb[huggingface]")

pytestmark = pytest.mark.slow  # transformers itself takes seconds to import

SIZES = {"num_attention_heads": 2, "intermediate_size": 32, "hidden_size": 16}


def wav2vec2(folder, seed=0):
    torch.manual_seed(seed)
    config = transformers.Wav2Vec2Config(
        num_hidden_layers=3, conv_dim=[8] * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, **SIZES
    )
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def spectrogram_transformer(folder):
    torch.manual_seed(0)
    config = transformers.ASTConfig(num_hidden_layers=2, max_length=104, num_mel_bins=32, **SIZES)
    transformers.ASTModel(config).save_pretrained(folder)
    transformers.ASTFeatureExtractor(max_length=104, num_mel_bins=32).save_pretrained(folder)
    return folder


def whisper(folder):
    torch.manual_seed(0)
    attention = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    tokens = {"vocab_size": 9, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_source_positions=100,
        num_mel_bins=20,
        **attention,
        **tokens,
    )
    transformers.WhisperModel(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=20, chunk_length=2).save_pretrained(folder)
    return folder


MODELS = {"wav2vec2": wav2vec2, "spectrogram transformer": spectrogram_transformer, "whisper": whisper}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp("models") / name) for name, make in MODELS.items()}


@pytest.fixture(scope="module")
def encoders(folders):
    return {name: load_external(f"hf:{folder}") for name, folder in folders.items()}


def noise(samples, clips=1):
    return torch.randn(clips, samples, generator=torch.Generator().manual_seed(1)) / 9


@pytest.mark.parametrize("name", MODELS)
def test_an_embedding_is_that_of_the_clip_alone_whatever_it_is_padded_and_batched_with(encoders, name):
    encoder, lengths = encoders[name], torch.tensor([80_000, 24_000, 80_000, 9_000])
    waveform = noise(80_000, 4)
    frames, together = encoder.embed_frames(waveform, lengths), encoder.embed_clip(waveform, lengths)
    layers = encoder.layers(waveform, lengths)
    for row, length in enumerate(lengths.tolist()):
        own = encoder.embed_frames(waveform[row, :length])[0]
        torch.testing.assert_close(frames[row, : len(own)], own, atol=1e-5, rtol=1e-4)
        assert (frames[row, len(own) :] == 0).all()
        torch.testing.assert_close(together[row], own.mean(dim=0), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(layers[:, -1], frames, atol=1e-5, rtol=1e-4)  # the last layer is what is embedded
    assert not torch.allclose(layers[:, 0], layers[:, 1])


@pytest.mark.parametrize(("name", "depth", "hop"), [*zip(MODELS, (3, 2, 2), (0.02, 0.1, 0.02), strict=True)])
def test_frames_follow_time_also_over_the_border_of_a_pass(encoders, name, depth, hop):
    encoder = encoders[name]
    assert encoder.sample_rate == 16_000
    assert encoder.hop_seconds == pytest.approx(hop)
    for seconds in (0.5, 1.9, 5.0):  # the fixed inputs are 1.055 s and 2 s long
        shape = encoder.layers(noise(int(16_000 * seconds))).shape
        assert shape[:2] == (1, depth)
        assert shape[2] == pytest.approx(seconds / hop, abs=3)


def test_wav2vec2_is_what_transformers_computes(encoders, folders):
    model = transformers.AutoModel.from_pretrained(folders["wav2vec2"]).eval()
    waveform = noise(24_000)
    given = (waveform - waveform.mean()) / waveform.std(correction=0)  # what its feature extractor does
    with torch.no_grad():
        expected = model(given).last_hidden_state
    torch.testing.assert_close(encoders["wav2vec2"].embed_frames(waveform), expected, atol=1e-4, rtol=1e-3)


def test_patches_of_one_time_are_averaged_and_padding_is_left_out(encoders, folders):
    folder = folders["spectrogram transformer"]
    model = transformers.AutoModel.from_pretrained(folder).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    waveform = noise(8_000)  # 48 spectra of 104
    given = extractor(waveform[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        tokens = model(**given).last_hidden_state[0, 2:]  # [2 * 9, 16]: 2 bands, 9 times
    found = encoders["spectrogram transformer"].embed_frames(waveform)[0]
    assert len(found) == 5  # patches that begin at 0, 10, ..., 40
    for time in range(5):
        torch.testing.assert_close(found[time], (tokens[time] + tokens[9 + time]) / 2, atol=1e-5, rtol=1e-4)


def test_patches_are_read_by_frequency_first(folders):
    """What the averaging rests on, asked of transformers itself."""
    model = transformers.AutoModel.from_pretrained(folders["spectrogram transformer"])
    spectra = torch.zeros(2, 104, 32)
    spectra[1, 30] = 1.0  # in the patches that begin at 20 and 30, of both bands
    with torch.no_grad():
        still, moved = model.embeddings.patch_embeddings(spectra)  # [18, 16]
    assert (still != moved).any(dim=1).nonzero().squeeze(1).tolist() == [2, 3, 9 + 2, 9 + 3]


@pytest.mark.parametrize(
    ("name", "samples", "step"), [("spectrogram transformer", 16_880, 14_400), ("whisper", 32_000, 32_000)]
)
def test_what_is_longer_than_a_pass_is_read_in_pieces_that_follow_each_other(encoders, name, samples, step):
    encoder, waveform = encoders[name], noise(2 * step + 4_000)
    pieces = [encoder.embed_frames(waveform[:, at : at + samples]) for at in (0, step, 2 * step)]
    torch.testing.assert_close(encoder.embed_frames(waveform), torch.cat(pieces, dim=1), atol=1e-5, rtol=1e-4)
    assert len({one.shape[1] for one in pieces[:2]}) == 1
    assert pieces[0].shape[1] * encoder.hop_seconds == pytest.approx(step / 16_000)
    assert pieces[2].shape[1] < pieces[1].shape[1]


def test_kept_embeddings_are_those_of_the_weights_and_settings(folders, encoders, tmp_path):
    plain = encoder_digest(encoders["wav2vec2"])
    assert plain is not None
    assert encoder_digest(load_external(f"hf:{folders['wav2vec2']}")) == plain
    other = wav2vec2(tmp_path / "other", seed=1)
    assert encoder_digest(load_external(f"hf:{other}")) != plain
    same = wav2vec2(tmp_path / "same")
    assert encoder_digest(load_external(f"hf:{same}")) == plain
    transformers.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(same)
    assert encoder_digest(load_external(f"hf:{same}")) != plain


def test_weights_are_read_in_full_precision_and_the_callers_random_numbers_stay(folders, tmp_path):
    model = transformers.AutoModel.from_pretrained(folders["wav2vec2"]).half()
    model.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    encoder = load_external(f"hf:{tmp_path}")
    torch.testing.assert_close(torch.rand(3), expected)
    assert {one.dtype for one in encoder._model.parameters()} == {torch.float32}


def test_what_is_no_audio_model_is_told(tmp_path, folders):
    with pytest.raises(UsageError, match="transformers cannot load it"):
        load_external(f"hf:{tmp_path / 'nothing'}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="transformers cannot load it"):
        load_external(f"hf:{tmp_path}")


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs transformers") as caught:
        check_external("hf:any/model")
    assert "ssl-wb[huggingface]" in caught.value.hint


def test_nothing_imports_transformers_before_it_is_asked_for():
    code = "import sys, ssl_wb.encoder.external, ssl_wb.encoder.external.huggingface, ssl_wb.evaluation.runner; "
    code += "sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tone_that_tries_an_encoder_is_silent_about_its_numbers(encoders):
    for encoder in encoders.values():
        assert np.isfinite(encoder.embed_clip(torch.zeros(1, 16_000)).numpy()).all()

"""Folders for transformers: registered classes, and code of their own that needs no ssl-wb."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ssl_wb import load_encoder
from ssl_wb.cli.main import run as command
from ssl_wb.encoder.formats.base import ExportOptions
from ssl_wb.errors import UsageError
from ssl_wb.workflows.export import export_encoder

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def loaded(exported):
    import ssl_wb.huggingface  # noqa: F401

    folder = exported("transformers")
    return (
        transformers.AutoFeatureExtractor.from_pretrained(folder),
        transformers.AutoModel.from_pretrained(folder).eval(),
    )


@pytest.fixture(scope="module")
def self_contained(tmp_path_factory, dasheng):
    folder = tmp_path_factory.mktemp("self-contained") / "dasheng"
    export_encoder(dasheng, folder, target="transformers", options=ExportOptions(self_contained=True), licence="mit")
    return folder


def test_registered_classes_give_the_embeddings_of_the_encoder(loaded, exported, clips):
    extractor, model = loaded
    encoder = load_encoder(exported("transformers"))  # still an encoder folder
    waveform, lengths = clips
    inputs = extractor(
        [waveform[0].numpy(), waveform[1, : lengths[1]].numpy()], sampling_rate=16000, return_tensors="pt"
    )
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
    assert_close(output.pooler_output, encoder.embed_clip(waveform, lengths), rtol=1e-5, atol=1e-5)
    assert_close(output.last_hidden_state, encoder.embed_frames(waveform, lengths), rtol=1e-5, atol=1e-5)
    assert_close(torch.stack(output.hidden_states, dim=1), encoder.layers(waveform, lengths), rtol=1e-5, atol=1e-5)
    with torch.no_grad():  # one by one, without a mask
        for row, length in enumerate(lengths):
            alone = model(input_values=waveform[row : row + 1, :length]).pooler_output
            assert_close(output.pooler_output[row : row + 1], alone, rtol=0, atol=1e-5)


def test_weights_in_half_precision_stay_within_their_rounding(loaded, exported, clips):
    waveform, lengths = clips
    expected = load_encoder(exported("encoder")).embed_clip(waveform, lengths)
    mask = (torch.arange(waveform.shape[1]) < lengths[:, None]).long()
    for dtype in (torch.bfloat16, torch.float16):
        model = transformers.AutoModel.from_pretrained(exported("transformers"), dtype=dtype).eval()
        with torch.no_grad():
            found = model(waveform, mask).pooler_output
        assert found.dtype == torch.float32
        # A few units in the last place of the largest value: the blocks' rounding adds up.
        assert float((found - expected).abs().max()) < 8 * torch.finfo(dtype).eps * float(expected.abs().max())
    assert torch.float32 == loaded[1].dtype


def test_a_saved_model_loads_again_and_gradients_flow(loaded, tmp_path, clips):
    extractor, model = loaded
    model.save_pretrained(tmp_path / "again")
    extractor.save_pretrained(tmp_path / "again")
    again = transformers.AutoModel.from_pretrained(tmp_path / "again")
    output = again(clips[0])
    assert_close(output.pooler_output.detach(), model(clips[0]).pooler_output.detach(), rtol=0, atol=0)
    output.pooler_output.sum().backward()
    assert all(value.grad is not None for name, value in again.named_parameters() if "proj" in name)


def test_the_feature_extractor_pads_and_refuses_other_rates(loaded):
    extractor, _ = loaded
    one = extractor(np.zeros(1000, dtype=np.float32), sampling_rate=16000, return_tensors="np")
    assert one["input_values"].shape == (1, 1000)
    two = extractor([np.ones(3), [0.5, 0.5]], return_tensors="pt")
    assert two["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert two["input_values"].tolist() == [[1, 1, 1], [0.5, 0.5, 0]]
    with pytest.raises(ValueError, match="8000 Hz"):
        extractor(np.zeros(10), sampling_rate=8000)
    with pytest.raises(ValueError, match="one channel"):
        extractor([np.zeros((2, 10))])


@pytest.mark.torture
def test_a_self_contained_folder_needs_no_ssl_wb(self_contained, tmp_path, clips):
    """In a process that cannot import ssl-wb, as in an environment without it."""
    waveform, lengths = clips
    np.savez(tmp_path / "in.npz", waveform=waveform.numpy(), lengths=lengths.numpy())
    script = f"""
import sys
sys.modules["ssl_wb"] = sys.modules["torchaudio"] = None  # importing them fails
import numpy, torch
from transformers import AutoFeatureExtractor, AutoModel
folder, given = {str(self_contained)!r}, numpy.load({str(tmp_path / "in.npz")!r})
extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
clips = [row[:length] for row, length in zip(given["waveform"], given["lengths"])]
with torch.no_grad():
    output = model(**extractor(clips, sampling_rate=16000, return_tensors="pt"))
numpy.savez({str(tmp_path / "out.npz")!r}, clips=output.pooler_output.numpy(), frames=output.last_hidden_state.numpy())
"""
    environment = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PATH": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.load(tmp_path / "out.npz")
    encoder = load_encoder(self_contained)
    assert_close(torch.from_numpy(found["clips"]), encoder.embed_clip(waveform, lengths), rtol=1e-5, atol=1e-4)
    assert_close(torch.from_numpy(found["frames"]), encoder.embed_frames(waveform, lengths), rtol=1e-5, atol=1e-4)


def test_the_code_of_a_self_contained_folder_names_no_ssl_wb(self_contained):
    for path in self_contained.glob("*.py"):
        assert "import ssl_wb" not in path.read_text()
        assert "from ssl_wb" not in path.read_text()
    card = (self_contained / "README.md").read_text()
    assert "trust_remote_code=True" in card
    assert "license: mit" in card
    assert (
        json.loads((self_contained / "config.json").read_text())["auto_map"]["AutoModel"]
        == "modeling_ssl_wb.SslWbModel"
    )


def test_an_option_of_another_format_is_refused(exported, tmp_path, capsys):
    arguments = ["export", str(exported("encoder")), "--out", str(tmp_path / "x")]
    assert command([*arguments, "--for", "hear", "--self-contained"]) == 2
    assert "--self-contained: is not an option of --for hear" in capsys.readouterr().err
    assert command([*arguments, "--for", "transformer"]) == 2
    with pytest.raises(UsageError, match="did you mean 'transformers'"):
        export_encoder(exported("encoder"), tmp_path / "x", target="transformer")
    assert command(["export", str(exported("encoder")), "--out", str(exported("encoder")), "--overwrite"]) == 2
    assert "is the encoder itself" in capsys.readouterr().err

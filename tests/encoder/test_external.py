"""HEAR modules, X-ARES files and the user's own encoders: read as they are meant, and told what is wrong with them."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest
import torch

from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.encoder.external import check_external, is_external, load_external
from ssl_wb.errors import DataError, UsageError
from ssl_wb.evaluation.embedding_cache import EmbeddingCache, encoder_digest

HEAR = """
    import torch

    class Model(torch.nn.Module):
        sample_rate = 22050
        scene_embedding_size = 3
        timestamp_embedding_size = 2

        def __init__(self, gain):
            super().__init__()
            self.gain = gain
            self.dropout = torch.nn.Dropout(0.9)

    def load_model(model_file_path=""):
        return Model(float(open(model_file_path).read()) if model_file_path else 1.0)

    def get_timestamp_embeddings(audio, model):
        hop = 441  # 20 ms
        power = model.dropout(audio).square()
        power = torch.nn.functional.pad(power, (0, -audio.shape[1] % hop)).unflatten(1, (-1, hop)).mean(2)
        times = (torch.arange(power.shape[1]) * 20.0 + 10.0).expand(len(audio), -1)
        return model.gain * torch.stack([power, power.sqrt()], dim=2), times

    def get_scene_embeddings(audio, model):
        # The mean over all samples: padding with silence would lower it.
        return model.gain * torch.stack([audio.mean(1), audio.abs().mean(1), audio.square().mean(1)], dim=1)
"""

XARES = """
    import torch

    class HelperEncoder(torch.nn.Module):
        pass

    class ToneEncoder(torch.nn.Module):
        sampling_rate = 16000
        output_dim = 4
        hop_size_in_ms = 40

        def forward(self, audio):
            assert audio.ndim == 2
            frames = audio[:, : audio.shape[1] // 640 * 640].unflatten(1, (-1, 640))
            return torch.stack([frames.mean(2), frames.amax(2), frames.amin(2), frames.std(2)], dim=2)
"""

OWN = """
    import torch

    class Loudness:
        sample_rate = 8000

        def embed_frames(self, waveform, lengths=None):
            return waveform[:, : waveform.shape[1] // 80 * 80].unflatten(1, (-1, 80)).square().mean(2)[:, :, None]

        def embed_clip(self, waveform, lengths=None):
            assert lengths.tolist() == [waveform.shape[1]] * len(waveform)
            return waveform.square().mean(1)[:, None]

    class Deep(Loudness):
        hop_seconds = 0.01

        def layers(self, waveform, lengths=None):
            return torch.stack([self.embed_frames(waveform), 2 * self.embed_frames(waveform)], dim=1)

    def plain():
        return Loudness()

    def deep():
        return Deep()

    def nothing():
        return None
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module and return its path; forget the folders that were searched afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def put(text, name="theirs.py", **replaced):
        text = dedent(text)
        for old, new in replaced.items():
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / name
        path.write_text(text)
        return path

    return put


def clips(rate, seconds=(1.0, 0.37, 1.0)):
    """Waveforms ``[B, S]`` padded with noise, not with silence, and their lengths."""
    lengths = torch.tensor([int(rate * one) for one in seconds])
    return torch.randn(len(seconds), int(lengths.max()), generator=torch.Generator().manual_seed(0)) / 9, lengths


def told(source):
    check_external(source)
    with pytest.raises((UsageError, DataError)) as caught:
        load_external(source)
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("kind", "text", "ending"),
    [("hear", HEAR, ""), ("xares", XARES, ":ToneEncoder"), ("python", OWN, ":plain"), ("python", OWN, ":deep")],
)
def test_an_embedding_is_that_of_the_clip_alone_whatever_it_is_padded_and_batched_with(write, kind, text, ending):
    encoder = load_external(f"{kind}:{write(text)}{ending}")
    waveform, lengths = clips(encoder.sample_rate)
    together, frames = encoder.embed_clip(waveform, lengths), encoder.embed_frames(waveform, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = waveform[row, :length]
        torch.testing.assert_close(together[row], encoder.embed_clip(alone)[0])
        own = encoder.embed_frames(alone)[0]
        torch.testing.assert_close(frames[row, : len(own)], own)
        assert (frames[row, len(own) :] == 0).all()
    assert together.dtype == frames.dtype == torch.float32
    assert not torch.equal(together[0], together[2])  # rows did not change places unseen


def test_a_hear_module_gives_scenes_frames_and_its_hop(write, tmp_path):
    module = write(HEAR)
    encoder = load_external(f"hear:{module}")
    assert encoder.sample_rate == 22050
    assert encoder.hop_seconds == pytest.approx(0.02)
    waveform, _ = clips(22050)
    scene = torch.stack([waveform.mean(1), waveform.abs().mean(1), waveform.square().mean(1)], dim=1)
    torch.testing.assert_close(encoder.embed_clip(waveform), scene)  # and no dropout
    assert encoder.embed_frames(waveform).shape == (3, 50, 2)
    (tmp_path / "weights.txt").write_text("3.0")
    torch.testing.assert_close(
        load_external(f"hear:{module}:{tmp_path / 'weights.txt'}").embed_clip(waveform), 3 * scene
    )
    assert not hasattr(encoder, "layers")
    assert not hasattr(encoder, "backbone")


def test_a_module_is_found_by_its_name_in_the_working_folder(write, monkeypatch):
    monkeypatch.chdir(write(HEAR, "my_hear_module.py").parent)
    check_external("hear:my_hear_module")
    assert load_external("hear:my_hear_module").sample_rate == 22050


def test_an_xares_encoder_is_averaged_over_its_frames(write):
    path = write(XARES)
    encoder = load_external(f"xares:{path}:ToneEncoder")
    assert (encoder.sample_rate, encoder.hop_seconds) == (16000, 0.04)
    waveform, _ = clips(16000, (1.0,))
    torch.testing.assert_close(encoder.embed_clip(waveform), encoder.embed_frames(waveform).mean(dim=1))
    assert encoder.embed_frames(waveform).shape == (1, 25, 4)
    # The only class that is called an encoder needs no name; and without a hop of its own it is measured.
    alone = write(XARES, "alone.py", **{"HelperEncoder": "Helper", "hop_size_in_ms = 40": ""})
    assert load_external(f"xares:{alone}").hop_seconds == pytest.approx(0.04)


def test_two_files_of_one_name_are_two_encoders(write, tmp_path):
    (tmp_path / "other").mkdir()
    one = write(XARES, **{"output_dim = 4": "output_dim = 4"})
    two = write(XARES, "other/theirs.py", **{"sampling_rate = 16000": "sampling_rate = 8000"})
    assert load_external(f"xares:{one}:ToneEncoder").sample_rate == 16000
    assert load_external(f"xares:{two}:ToneEncoder").sample_rate == 8000


def test_an_own_encoder_has_layers_where_it_offers_them(write):
    path = write(OWN)
    plain, deep = (load_external(f"python:{path}:{name}") for name in ("plain", "deep"))
    assert not hasattr(plain, "layers")
    waveform, lengths = clips(8000)
    layers, frames = deep.layers(waveform, lengths), deep.embed_frames(waveform, lengths)
    torch.testing.assert_close(layers, torch.stack([frames, 2 * frames], dim=1))
    assert plain.hop_seconds == pytest.approx(deep.hop_seconds)


def test_what_runs_unknown_code_is_not_kept(write, tmp_path):
    for source in (f"hear:{write(HEAR)}", f"python:{write(OWN, 'own.py')}:plain"):
        encoder = load_external(source)
        assert encoder_digest(encoder) is None
        assert EmbeddingCache(tmp_path, encoder).file((), "clip") is None


def test_a_frozen_encoder_put_together_by_hand_stays_what_it_is(write):
    made = """
        import torch
        from ssl_wb_plugins.front_ends.log_mel import LogMel
        from ssl_wb.encoder.encoder import FrozenEncoder
        from ssl_wb.plugin.registry import load_registry

        def make():
            vit = load_registry().get("backbone", "vit")
            front_end = LogMel(LogMel.Options.model_validate({"n_mels": 80}), 0.0, 1.0)
            return FrozenEncoder(front_end, vit(vit.Options(size="tiny"), 80, 64), 64)
    """
    encoder = load_external(f"python:{write(made)}:make")
    assert type(encoder) is FrozenEncoder
    assert encoder_digest(encoder) is not None


def test_the_kind_is_told_from_folders_and_drives(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tuesday:a").mkdir()
    assert [is_external(one) for one in ("hear:x", "hf:a/b", "runs/a", "C:\\runs", "tuesday:a", "./hear:x")] == [
        *(True, True, False, False, False, False),
    ]
    with pytest.raises(UsageError, match="'haer' is no kind of encoder; did you mean 'hear'"):
        is_external("haer:module")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hear:", "expected hear:MODULE"),
        ("python:module", "expected python:MODULE:FUNCTION"),
        ("python:module:not a name", "expected python:MODULE:FUNCTION"),
        ("hear:no_such_module_at_all", "there is no module 'no_such_module_at_all'"),
        ("hear:no_such_package.part", "there is no module 'no_such_package'"),
        ("xares:nowhere.py", "no such file: 'nowhere.py'"),
        ("hear:json:nowhere.pt", "no such file: 'nowhere.pt'"),
    ],
)
def test_what_is_not_there_is_said_before_anything_runs(source, message):
    with pytest.raises(UsageError, match=message):
        check_external(source)


def test_a_hear_module_is_told_what_it_lacks(write, tmp_path):
    def wrong(name, **replaced):
        return told(f"hear:{write(HEAR, name, **replaced)}")

    assert "the module has no get_scene_embeddings" in wrong("a.py", get_scene_embeddings="scenes")
    assert "no attribute 'sample_rate'" in wrong("b.py", sample_rate="rate")
    assert "says 0 as its 'sample_rate'" in wrong("c.py", **{"= 22050": "= 0"})
    assert "returns the shape (1, 3), expected [n, D] with n = 1, D = 7" in wrong("d.py", **{"_size = 3": "_size = 7"})
    assert "no PyTorch module" in wrong("e.py", **{"return Model": "return str"})
    assert "is not finite (embed_clip, 2 s)" in wrong("f.py", **{"audio.mean(1)": "audio.mean(1) / 0"})
    assert "get_timestamp_embeddings (its timestamps) returns a NoneType" in wrong("g.py", **{", times": ", None"})
    assert "on clips of shape (1, 44100) fails: ZeroDivisionError" in wrong("h.py", **{"audio.abs()": "(1 // 0)"})
    assert "load_model() fails: TypeError" in wrong("i.py", **{'path=""': "path"})
    assert "importing" in (message := wrong("j.py", **{"import torch": "import no_such_thing"}))
    assert "ModuleNotFoundError: No module named 'no_such_thing'" in message
    (tmp_path / "bad.txt").write_text("no number")
    assert "bad.txt') fails: ValueError" in told(f"hear:{write(HEAR)}:{tmp_path / 'bad.txt'}")


def test_an_xares_file_is_told_what_it_lacks(write):
    def wrong(name, ending=":ToneEncoder", **replaced):
        return told(f"xares:{write(XARES, name, **replaced)}{ending}")

    assert "it defines HelperEncoder, ToneEncoder" in wrong("a.py", "")
    assert "defines no class whose name ends in 'Encoder'" in wrong("b.py", "", Encoder="")
    assert "no class 'ToneEncoded' in it; did you mean 'ToneEncoder'" in wrong("c.py", ":ToneEncoded")
    assert "no attribute 'sampling_rate'" in wrong("d.py", sampling_rate="sample_rate")
    assert "no attribute 'output_dim'" in wrong("e.py", **{"output_dim = 4": ""})
    assert "returns the shape (1, 50, 4), expected [n, T, D] with n = 1, D = 5" in wrong(
        "f.py", **{"dim = 4": "dim = 5"}
    )
    assert "returns the shape (1, 200)" in wrong("g.py", **{"], dim=2)": "], dim=2).flatten(1)"})
    assert "fails: AssertionError" in wrong("h.py", **{"audio.ndim == 2": "audio.ndim == 3"})
    assert "ToneEncoder() fails: TypeError" in wrong("i.py", **{"output_dim = 4": "__init__ = lambda self, size: None"})


def test_an_own_function_is_told_what_it_lacks(write):
    path = write(OWN)
    assert "no function 'plane' in the module; did you mean 'plain'" in told(f"python:{path}:plane")
    assert "NoneType that nothing() returns has no embed_clip, no embed_frames" in told(f"python:{path}:nothing")
    other = write(OWN, "other.py", **{"square().mean(1)[:, None]": "square().mean(1)"})
    assert "embed_clip returns the shape (1,), expected [n, D] with n = 1" in told(f"python:{other}:plain")


def test_embeddings_of_a_width_that_changes_with_the_length_are_refused(write):
    path = write(OWN, **{"waveform.square().mean(1)[:, None]": "waveform"})
    encoder = load_external(f"python:{path}:plain")
    with pytest.raises(DataError, match="embeddings of clips of different length differ in shape"):
        encoder.embed_clip(*clips(8000))


def test_a_waveform_that_cannot_be_embedded_is_refused(write):
    encoder = load_external(f"python:{write(OWN)}:plain")
    for waveform, lengths, match in [
        (torch.zeros(1, 2, 100), None, "of shape"),
        (torch.zeros(1, 0), None, "of shape"),
        (torch.full((1, 100), float("nan")), None, "not finite"),
        (torch.zeros(2, 100), torch.tensor([100, 101]), "lengths"),
        (torch.zeros(2, 100), torch.tensor([100]), "lengths"),
    ]:
        with pytest.raises(UsageError, match=match):
            encoder.embed_clip(waveform, lengths)

from __future__ import annotations

import csv
import time
from collections import Counter

import numpy as np
import pytest
import soundfile
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_wb.data.clips import load_clips
from ssl_wb.errors import DataError
from ssl_wb_plugins.front_ends.log_mel import LogMel
from ssl_wb_plugins.sources import scenes
from ssl_wb_plugins.sources.scenes import (
    DISTRACTORS,
    KINDS,
    Event,
    ScenesOptions,
    draw_event,
    render,
    scene,
    split_of,
    write_scenes,
)


def event(kind, **changes):
    values = {
        "kind": kind,
        "duration": 1.0,
        "pitch": 800.0,
        "partials": (1.0,),
        "roughness": 0.0,
        "rate": 5.0,
        "depth": 2.0,
        "seed": 1,
    }
    return Event(**values | changes)


def pitch_track(wave, rate=16000):
    """Frequency in Hz from zero crossings of 50 ms pieces."""
    pieces = wave[: len(wave) // 800 * 800].reshape(-1, 800)
    return (np.diff(np.signbit(pieces), axis=1).sum(axis=1)) * rate / (2 * 799)


def spectrum(wave):
    return np.abs(np.fft.rfft(wave)) ** 2


@pytest.mark.parametrize("kind", [*KINDS, *DISTRACTORS])
@pytest.mark.parametrize("rate", [4000, 16000, 44100])
def test_every_event_is_finite_and_of_unit_level(kind, rate):
    random = np.random.default_rng(0)
    for _ in range(3):
        drawn = draw_event(kind, 1.0, rate, random)
        wave = render(drawn, rate)
        assert len(wave) == round(drawn.duration * rate)
        assert np.sqrt(np.mean(wave**2)) == pytest.approx(1.0, rel=1e-3)


def test_rise_and_fall():
    rise, fall = pitch_track(render(event("rise"), 16000)), pitch_track(render(event("fall"), 16000))
    assert rise[0] < 450
    assert rise[-1] > 1450
    assert (np.diff(rise) > -20).all()
    assert (np.diff(fall) < 20).all()


@pytest.mark.parametrize(("kind", "mirror"), [("rise", "fall"), ("swell", "strike"), ("quickening", "slowing")])
def test_mirrored_kinds_have_one_long_term_spectrum(kind, mirror):
    one, other = spectrum(render(event(kind), 16000)), spectrum(render(event(mirror), 16000))
    bands = [slice(low, low + 40) for low in range(0, 2000, 40)]
    np.testing.assert_allclose(
        [one[band].sum() / one.sum() for band in bands],
        [other[band].sum() / other.sum() for band in bands],
        atol=0.01,
    )
    assert not np.allclose(render(event(kind), 16000), render(event(mirror), 16000), atol=0.1)


def test_steady_keeps_its_pitch_and_vibrato_and_trill_do_not():
    assert np.ptp(pitch_track(render(event("steady"), 16000))) < 30
    assert np.ptp(pitch_track(render(event("vibrato", depth=0.5), 16000))) > 150
    assert np.ptp(pitch_track(render(event("trill", depth=0.6), 16000))) > 150


def test_tremolo_swell_strike_and_pulses_move_the_level():
    def level(kind):
        return np.sqrt((render(event(kind), 16000)[:16000].reshape(-1, 160) ** 2).mean(axis=1))

    assert (np.diff(level("tremolo") > 0.7).sum() + 1) // 2 == 5  # five swells in a second at 5 Hz
    assert level("swell")[90:].mean() > 10 * level("swell")[:10].mean()
    assert level("strike")[:10].mean() > 10 * level("strike")[90:].mean()
    assert (level("pulses") < 0.1).mean() > 0.3


def test_partials_never_alias():
    wave = render(event("rise", pitch=2400.0, partials=(1.0, 1.0, 1.0, 1.0, 1.0), depth=2.2), 16000)
    assert spectrum(wave)[7500:].sum() < 1e-3 * spectrum(wave).sum()


def test_scenes_are_deterministic_and_differ():
    one, label = scene(0, 7)
    again, same = scene(0, 7)
    assert np.array_equal(one, again)
    assert label == same == KINDS[7]
    assert not np.array_equal(one, scene(1, 7)[0])
    assert not np.array_equal(one, scene(0, 17)[0])
    assert one.dtype == np.float32
    assert one.shape == (32000,)
    assert 0.05 < np.abs(one).max() <= 1.0


@pytest.mark.parametrize(("seconds", "rate"), [(0.11, 16000), (0.2, 4000), (5.0, 44100)])
def test_scenes_of_any_length_and_rate(seconds, rate):
    for index in range(len(KINDS)):
        wave, _ = scene(0, index, seconds=seconds, sample_rate=rate)
        assert len(wave) == round(seconds * rate)
        assert np.isfinite(wave).all()


def test_parts_are_60_15_25_per_cent_for_every_kind():
    for kind in range(len(KINDS)):
        parts = Counter(split_of(index) for index in range(200) if index % len(KINDS) == kind)
        assert parts == {"train": 12, "val": 3, "test": 5}
    assert {split_of(index) for index in range(20)} == {"train", "test"}


def test_writes_clips_and_a_manifest(tmp_path):
    manifest = write_scenes(tmp_path / "a", ScenesOptions(clips=40, seconds=0.5, seed=3), 8000)
    rows = list(csv.DictReader(manifest.open()))
    assert list(rows[0]) == ["path", "label", "split"]
    clips = load_clips(manifest)
    assert Counter(clip.labels for clip in clips) == {(kind,): 4 for kind in KINDS}
    for clip, row in zip(clips, rows, strict=True):
        assert soundfile.info(clip.path).subtype == "PCM_16"
        wave, rate = soundfile.read(clip.path)
        expected, label = scene(3, clip.id, seconds=0.5, sample_rate=8000)
        assert (rate, row["label"], row["split"]) == (8000, label, split_of(clip.id))
        np.testing.assert_allclose(wave, expected, atol=1e-4)
    assert sorted(path.name for path in manifest.parent.iterdir() if path.suffix != ".flac") == [
        "manifest.csv",
        "scenes.json",
    ]


def test_reuses_scenes_of_the_same_settings_only(tmp_path, monkeypatch):
    calls = []
    original = scenes.scene
    monkeypatch.setattr(scenes, "scene", lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs))
    section = ScenesOptions(clips=20, seconds=0.2)
    write_scenes(tmp_path, section)
    write_scenes(tmp_path, section)
    assert len(calls) == 20
    write_scenes(tmp_path, section.model_copy(update={"seed": 1}))
    assert len(calls) == 40
    write_scenes(tmp_path, section.model_copy(update={"seed": 1}), 8000)
    assert len(calls) == 60


def test_a_write_cut_off_is_begun_anew(tmp_path, monkeypatch):
    section, other = ScenesOptions(clips=20, seconds=0.2), ScenesOptions(clips=20, seconds=0.2, seed=1)
    write_scenes(tmp_path, section)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def killed_at_ten(seed, index, **kwargs):
        if index == 10:
            raise KeyboardInterrupt
        return scene(seed, index, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(scenes, "scene", killed_at_ten)
        with pytest.raises(KeyboardInterrupt):
            write_scenes(tmp_path, other)
    write_scenes(tmp_path, section)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError) as caught:
        write_scenes(tmp_path / "file", ScenesOptions(clips=20, seconds=0.2))
    assert "cannot be written" in caught.value.message
    assert caught.value.hint


@pytest.mark.slow
def test_plain_statistics_do_not_solve_the_scenes():
    """Mean and deviation of log-mel over time do better than chance (0.1) and far from well."""
    began = time.perf_counter()
    drawn = [scene(0, index, seconds=2.0) for index in range(1000)]
    assert time.perf_counter() - began < 60
    front_end = LogMel(LogMel.Options(n_mels=64), 0.0, 1.0)
    log_mel = torch.cat([front_end.log_mel(torch.from_numpy(wave)[None])[0] for wave, _ in drawn])  # [N, 64, T]
    features = torch.cat([log_mel.mean(dim=2), log_mel.std(dim=2)], dim=1).numpy()
    labels = np.array([label for _, label in drawn])
    test = np.array([split_of(index) == "test" for index in range(len(drawn))])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    accuracy = probe.fit(features[~test], labels[~test]).score(features[test], labels[test])
    assert 0.2 < accuracy < 0.5

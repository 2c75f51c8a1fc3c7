from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

from ssl_wb.data import statistics
from ssl_wb.data.clips import load_clips
from ssl_wb.data.statistics import measure
from ssl_wb.errors import DataError
from ssl_wb_plugins.front_ends.log_mel import LogMel

OPTIONS = LogMel.Options(sample_rate=8000, f_max=4000.0, n_mels=16)
FRONT_END = LogMel(OPTIONS)
SAMPLES = 2000


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch):
    """Keep the user's own cache out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ssl-wb"


@pytest.fixture
def noise_folder(tmp_path):
    """Twenty clips of noise at different levels, two of them much shorter than a crop."""
    random = np.random.default_rng(0)
    (tmp_path / "noise").mkdir()
    for index in range(20):
        samples = 700 if index < 2 else 4000
        soundfile.write(
            tmp_path / "noise" / f"{index:02d}.wav",
            random.normal(0, 0.01 * (index + 1), samples),
            8000,
            subtype="FLOAT",
        )
    return tmp_path / "noise"


@pytest.fixture
def measured(monkeypatch):
    """Count real measurements."""
    calls = []
    original = statistics._measured
    monkeypatch.setattr(statistics, "_measured", lambda *args: calls.append(1) or original(*args))
    return calls


def test_normalises_the_data_to_zero_mean_and_unit_deviation(noise_folder):
    clips = load_clips(noise_folder)
    found = measure(clips, FRONT_END, SAMPLES, crops=400)
    assert found.crops == 400
    assert found.digest == clips.digest
    front_end = LogMel(OPTIONS, found.mean, found.std)
    values = []
    for clip in clips:
        waveform = torch.from_numpy(soundfile.read(clip.path, dtype="float32")[0])[None]
        values.append(front_end(waveform[:, :SAMPLES])[0].flatten())
    assert abs(torch.cat(values).mean()) < 0.1
    assert abs(torch.cat(values).std() - 1) < 0.1


def test_padding_does_not_count(tmp_path):
    (tmp_path / "short").mkdir()
    wave = np.random.default_rng(0).normal(0, 0.1, 1000)
    soundfile.write(tmp_path / "short" / "a.wav", wave, 8000, subtype="FLOAT")
    log_mel, _ = FRONT_END.log_mel(torch.from_numpy(wave).float()[None])
    found = measure(load_clips(tmp_path / "short"), FRONT_END, 16000, crops=3)
    assert found.mean == pytest.approx(log_mel.mean().item(), abs=1e-4)
    assert found.std == pytest.approx(log_mel.std(correction=0).item(), abs=1e-4)


def test_measured_once_and_kept_in_the_users_cache(noise_folder, measured, cache_home):
    first = measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20)
    assert measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20) == first
    assert len(measured) == 1
    assert len(list(cache_home.glob("statistics-*.json"))) == 1
    assert not [path for path in noise_folder.iterdir() if path.suffix != ".wav"]  # nothing beside the data


@pytest.mark.parametrize("kind", ["folder", "manifest"])
def test_a_file_beside_the_data_of_an_older_version_is_read(noise_folder, measured, cache_home, kind):
    place, old = noise_folder, noise_folder / ".ssl-wb-statistics.json"
    if kind == "manifest":
        place, old = noise_folder / "m.csv", noise_folder / "m.csv.statistics.json"
        place.write_text("path\n05.wav\n06.wav\n")
    first = measure(load_clips(place), FRONT_END, SAMPLES, crops=20)
    (kept,) = cache_home.glob("statistics-*.json")
    kept.rename(old)
    assert measure(load_clips(place), FRONT_END, SAMPLES, crops=20) == first
    assert len(measured) == 1


def test_given_mean_and_std_do_not_matter_to_the_cache(noise_folder, measured):
    measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20)
    given = OPTIONS.model_copy(update={"mean": 1.0, "std": 2.0})
    measure(load_clips(noise_folder), LogMel(given), SAMPLES, crops=20)
    assert len(measured) == 1


@pytest.mark.parametrize("change", ["front end", "samples", "crops", "seed", "data"])
def test_measured_anew_when_something_changes(noise_folder, measured, change):
    measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20)
    options = OPTIONS.model_copy(update={"n_mels": 20}) if change == "front end" else OPTIONS
    if change == "data":
        soundfile.write(noise_folder / "99.wav", np.ones(4000) * 0.1, 8000)
    measure(
        load_clips(noise_folder),
        LogMel(options),
        SAMPLES + (change == "samples"),
        crops=20 + (change == "crops"),
        seed=int(change == "seed"),
    )
    assert len(measured) == 2
    # Both are known from now on.
    if change != "data":
        measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20)
        assert len(measured) == 2


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"KEY": 3}', '{"KEY": {"mean": 1}}', "\x00\xff"])
def test_a_corrupt_cache_is_ignored_and_rewritten(noise_folder, measured, cache_home, content):
    first = measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20)
    (place,) = cache_home.glob("statistics-*.json")
    key = next(iter(json.loads(place.read_text())))
    place.write_bytes(content.replace("KEY", key).encode("latin-1"))
    assert measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20) == first
    assert len(measured) == 2
    assert key in json.loads(place.read_text())


@pytest.mark.parametrize("wrong", [{"std": 0.0}, {"std": None}, {"mean": "x"}, {"mean": float("nan")}])
def test_a_cache_entry_with_a_bad_value_is_ignored(noise_folder, measured, cache_home, wrong):
    first = measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20)
    (place,) = cache_home.glob("statistics-*.json")
    entries = {key: entry | wrong for key, entry in json.loads(place.read_text()).items()}
    place.write_text(json.dumps(entries))
    assert measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20) == first
    assert len(measured) == 2


def test_goes_without_a_cache_where_none_can_be_kept(noise_folder, measured, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20).crops == 20
    assert measure(load_clips(noise_folder), FRONT_END, SAMPLES, crops=20).crops == 20
    assert len(measured) == 2


def test_silence_is_refused(tmp_path):
    (tmp_path / "silent").mkdir()
    soundfile.write(tmp_path / "silent" / "a.wav", np.zeros(4000), 8000)
    with pytest.raises(DataError) as caught:
        measure(load_clips(tmp_path / "silent"), FRONT_END, SAMPLES, crops=5)
    assert "silent" in caught.value.message
    assert "front_end.mean" in caught.value.hint


def test_measured_anew_when_the_files_of_a_manifest_change(noise_folder, measured):
    manifest = noise_folder / "m.csv"
    manifest.write_text("path\n05.wav\n06.wav\n")
    first = measure(load_clips(manifest), FRONT_END, SAMPLES, crops=20)
    for name in ("05.wav", "06.wav"):
        wave, rate = soundfile.read(noise_folder / name)
        soundfile.write(noise_folder / name, wave * 0.01, rate, subtype="FLOAT")  # of the same size
    again = measure(load_clips(manifest), FRONT_END, SAMPLES, crops=20)
    assert len(measured) == 2
    assert again.mean == pytest.approx(first.mean + 2 * np.log(0.01), abs=0.1)

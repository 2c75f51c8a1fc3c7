from __future__ import annotations

import time

import numpy as np
import pytest

from ssl_wb.audio.decode import info, read
from ssl_wb.data.clips import load_clips
from ssl_wb.data.dataset import CropDataset, UnreadableClips
from ssl_wb.data.loader import batches
from ssl_wb.data.statistics import measure
from ssl_wb_plugins.front_ends.log_mel import LogMel

pytestmark = pytest.mark.real_audio

TASKS = {
    "esc10": (400, 10),
    "arabic-keywords": (2400, 20),
    "arabic-speakers": (2400, 30),
    "digits-by-speaker": (3000, 10),
}


@pytest.fixture(scope="module")
def pretrain(real_audio, tmp_path_factory):
    """The pre-training manifest with absolute paths, in a folder of ours: nothing is written beside the real one."""
    lines = (real_audio / "pretrain.csv").read_text().splitlines()
    path = tmp_path_factory.mktemp("real") / "pretrain.csv"
    path.write_text("\n".join([lines[0], *(str(real_audio / line) for line in lines[1:])]) + "\n")
    return path


def test_the_manifest_is_read_fast(real_audio):
    began = time.perf_counter()
    clips = load_clips(real_audio / "pretrain.csv")
    assert time.perf_counter() - began < 5
    assert len(clips) == 7710


@pytest.mark.parametrize("task", TASKS)
def test_the_tasks_are_read(real_audio, task):
    clips = load_clips(real_audio / f"{task}.csv")
    count, classes = TASKS[task]
    assert len(clips) == count
    assert len({label for clip in clips for label in clip.labels}) == classes
    assert all(clip.split or clip.fold for clip in clips)


def test_slices_equal_the_whole(pretrain):
    for clip in list(load_clips(pretrain))[::500]:
        for rate, tolerance in ((info(clip.path).sample_rate, 0.0), (22050, 1e-5)):
            whole = read(clip.path, rate)
            part = read(clip.path, rate, start=0.1, duration=0.15)
            first = round(0.1 * rate)
            np.testing.assert_allclose(part, whole[first : first + round(0.15 * rate)], atol=tolerance)


def test_statistics_are_finite_and_plausible(pretrain, monkeypatch):
    found = measure(load_clips(pretrain), LogMel(LogMel.Options()), 18080, crops=300)
    assert -13 < found.mean < -6
    assert 3 < found.std < 7
    assert measure(load_clips(pretrain), LogMel(LogMel.Options()), 18080, crops=300) == found


def test_batches_of_real_clips(pretrain):
    dataset = CropDataset(load_clips(pretrain), 16000, 18080, 0)
    unreadable = UnreadableClips(dataset.clips.source)
    for batch in batches(dataset, seed=0, first_sample=0, global_batch=32, steps=4, workers=1, unreadable=unreadable):
        assert batch.waveform.isfinite().all()
        assert (batch.lengths > 1000).all()
    assert not unreadable.clips

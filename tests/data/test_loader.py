from __future__ import annotations

import logging
import multiprocessing
import random
import time

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from augmentations_by_name import augmentation
from ssl_wb.data import loader
from ssl_wb.data.augmenter import Augmenter
from ssl_wb.data.captions import CaptionTable
from ssl_wb.data.clips import load_clips
from ssl_wb.data.dataset import CropDataset
from ssl_wb.data.loader import batches, resolve_workers
from ssl_wb.data.order import clips_for
from ssl_wb.data.workers import StoppedWaitingError, WorkersLostError, wait_for
from ssl_wb.errors import AudioError, DataError, UsageError
from ssl_wb.recipe.schema import CaptionsSection

RATE = 8000


def crops(folder, samples=1000, seed=0, short="zeros", rate=RATE, **more):
    return CropDataset(load_clips(folder), rate, samples, seed, short, **more)


def only(crop):
    """The one reading of a crop, its length and its clip."""
    (waveform,) = crop.waveform
    return waveform, crop.length, crop.clip


def ramp(first, count):
    """Samples ``first..first + count`` of the clips that ``write_clip`` writes."""
    return np.arange(first + 1, first + count + 1, dtype=np.float32) / 32768


# -------------------------------------------------------------------------------------------------- crops


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips of 500 to 4,000 samples."""
    import soundfile

    folder = tmp_path_factory.mktemp("clips")
    for index, samples in enumerate([4000, 1000, 1001, 500, 3000]):
        soundfile.write(folder / f"{index}.wav", (np.arange(samples) + 1).astype(np.int16), RATE, subtype="PCM_16")
    return folder


@given(epoch=st.integers(0, 10**6), index=st.integers(0, 4), seed=st.integers(0, 2**33), samples=st.integers(1, 5000))
@settings(deadline=None)
def test_a_crop_lies_within_its_clip(folder, epoch, index, seed, samples):
    waveform, length, clip = only(crops(folder, samples, seed)[epoch, index])
    available = [4000, 1000, 1001, 500, 3000][index]
    assert clip == index
    assert waveform.dtype == np.float32
    assert waveform.shape == (samples,)
    assert length == min(samples, available)
    first = round(float(waveform[0]) * 32768) - 1
    assert 0 <= first <= available - length
    np.testing.assert_array_equal(waveform[:length], ramp(first, length))
    assert not waveform[length:].any()


def test_every_start_is_drawn(folder):
    dataset = crops(folder, 3990)
    starts = {round(float(only(dataset[epoch, 0])[0][0]) * 32768) - 1 for epoch in range(200)}
    assert starts == set(range(11))


def test_a_crop_is_a_function_of_seed_epoch_and_clip(folder):
    one, two = crops(folder), crops(folder)
    two[5, 0]
    assert np.array_equal(one[3, 0][0], two[3, 0][0])
    assert not np.array_equal(one[3, 0][0], one[4, 0][0])
    assert not np.array_equal(one[3, 0][0], crops(folder, seed=1)[3, 0][0])


def test_short_clips_are_repeated(folder):
    waveform, length, _ = only(crops(folder, 1200, short="repeat")[0, 3])
    assert length == 1200
    np.testing.assert_array_equal(waveform, np.concatenate([ramp(0, 500), ramp(0, 500), ramp(0, 200)]))


def test_short_clips_are_followed_by_zeros(folder):
    waveform, length, _ = only(crops(folder, 1200)[0, 3])
    assert length == 500
    np.testing.assert_array_equal(waveform, np.concatenate([ramp(0, 500), np.zeros(700, np.float32)]))


def test_start_and_duration_of_a_manifest_bound_the_crop(make_folder):
    clips = make_folder(4000)
    (clips / "m.csv").write_text("path,start,duration\n000.wav,0.125,0.25\n")  # samples 1000 to 3000
    dataset = crops(clips / "m.csv", 500)
    starts = [round(float(only(dataset[epoch, 0])[0][0]) * 32768) - 1 for epoch in range(100)]
    assert min(starts) >= 1000
    assert max(starts) <= 2500
    assert crops(clips / "m.csv", 5000)[0, 0][1] == 2000


def test_crops_are_resampled(folder):
    waveform, length, _ = only(crops(folder, 6000, rate=16000)[0, 0])
    assert length == 6000
    steps = np.diff(waveform[500:-500]) * 32768
    np.testing.assert_allclose(steps, 0.5, atol=0.05)  # the ramp at twice the rate


# ------------------------------------------------------------------------------------ readings and captions

AUGMENT = [
    augmentation("roll"),
    augmentation("gain-beta"),
    augmentation("add-gaussian-snr", p=1.0),
    augmentation("band-stop-filter", p=1.0),
]


def test_readings_share_the_crop_and_are_augmented_apart(folder):
    plain = crops(folder)
    rolled = crops(folder, augment=Augmenter([augmentation("roll")], RATE), views=3)
    readings = rolled[2, 0].waveform
    (crop,) = plain[2, 0].waveform
    assert readings.shape == (3, 1000)
    for reading in readings:
        np.testing.assert_array_equal(np.sort(reading), crop)  # the ramp of the same place, shifted circularly
    assert len({float(reading[0]) for reading in readings}) == 3


def test_the_part_past_a_short_clip_stays_silent(folder):
    augment = Augmenter(AUGMENT, RATE)
    silent = crops(folder, 1200, augment=augment, views=2)[0, 3]
    assert silent.length == 500
    assert silent.waveform[:, :500].any(axis=1).all()
    assert not silent.waveform[:, 500:].any()
    assert crops(folder, 1200, short="repeat", augment=augment, views=2)[0, 3].waveform[:, 500:].any()


def test_a_reading_is_a_function_of_seed_epoch_clip_and_view(folder):
    one = crops(folder, augment=Augmenter(AUGMENT, RATE), views=2)
    two = crops(folder, augment=Augmenter(AUGMENT, RATE), views=3)
    two[5, 0]
    random.seed(1)
    np.random.seed(1)
    assert np.array_equal(one[3, 0].waveform, two[3, 0].waveform[:2])
    assert not np.array_equal(one[3, 1].waveform, one[4, 1].waveform)  # clip 1 has one crop only
    other = crops(folder, seed=1, augment=Augmenter(AUGMENT, RATE), views=2)
    assert not np.array_equal(one[3, 1].waveform, other[3, 1].waveform)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_reading_and_no_caption(captioned, workers):
    def loaded(workers):
        clips = load_clips(captioned)
        section = CaptionsSection(encoder="hashing", dim=16)
        dataset = CropDataset(
            clips, RATE, 600, 0, augment=Augmenter(AUGMENT, RATE), views=2, captions=CaptionTable.build(clips, section)
        )
        return list(batches(dataset, seed=3, first_sample=2, global_batch=4, steps=3, workers=workers))

    for expected, got in zip(loaded(0), loaded(workers), strict=True):
        assert got.waveform.shape == (4, 2, 600)
        assert (got.captions.dtype, got.captions.shape) == (torch.float32, (4, 16))
        assert torch.equal(expected.waveform, got.waveform)
        assert torch.equal(expected.captions, got.captions)


@pytest.fixture
def captioned(make_folder):
    folder = make_folder(1000, 700, 400)
    rows = ["path,caption", "000.wav,a dog|a cat|a hen", "001.wav,rain", "002.wav,wind"]
    (folder / "m.csv").write_text("\n".join(rows))
    return folder / "m.csv"


def test_a_caption_is_of_the_clip_that_was_read(captioned):
    clips = load_clips(captioned)
    table = CaptionTable.build(clips, CaptionsSection(encoder="hashing", dim=16))
    spoil(captioned.parent, 1)
    dataset = CropDataset(clips, RATE, 600, 0, captions=table)
    crop = dataset[0, 1]
    assert crop.clip == 2
    np.testing.assert_array_equal(crop.caption, dataset[7, 2].caption)  # wind has one caption
    drawn = [dataset[epoch, 0].caption for epoch in range(40)]
    assert len({caption.tobytes() for caption in drawn}) == 3
    np.testing.assert_array_equal(dataset[5, 0].caption, drawn[5])


def test_the_error_of_an_augmentation_arrives_whole(folder):
    augment = Augmenter([augmentation("gain", p=1.0)], RATE)
    augment._steps[0]._transform = None  # as a library's defect would: calling it fails
    dataset = crops(folder, augment=augment)
    with pytest.raises(DataError, match="augmentation 'gain' failed on a crop of") as caught:
        list(batches(dataset, seed=0, first_sample=0, global_batch=2, steps=1))
    assert "data.augment" in caught.value.hint


# -------------------------------------------------------------------------------------- unreadable clips


def spoil(folder, *indices):
    for index in indices:
        (folder / f"{index:03d}.wav").write_text("broken")


def test_an_unreadable_clip_is_replaced_by_the_next_one(make_folder, caplog):
    folder = make_folder(*[1000] * 5)
    spoil(folder, 1, 2, 4)
    dataset = crops(folder)
    with caplog.at_level(logging.WARNING, logger="ssl_wb"):
        assert [dataset[0, index][2] for index in (0, 1, 2, 3, 4)] == [0, 3, 3, 3, 0]
        assert dataset[1, 4][2] == 0
        list(batches(dataset, seed=0, first_sample=0, global_batch=5, steps=4))
    assert len(caplog.records) == 3  # each once
    assert "001.wav" in caplog.text


def test_many_unreadable_clips_end_the_run(make_folder):
    folder = make_folder(*[1000] * 20)
    spoil(folder, *range(12))
    with pytest.raises(AudioError) as caught:
        list(batches(crops(folder), seed=0, first_sample=0, global_batch=20, steps=1))
    assert "12 clips cannot be read" in caught.value.message
    assert "000.wav" in caught.value.message
    assert "and 7 more" in caught.value.message
    assert caught.value.hint


def test_few_clips_all_unreadable_end_the_run(make_folder):
    folder = make_folder(1000, 1000)
    spoil(folder, 0, 1)
    with pytest.raises(AudioError, match="2 clips cannot be read"):
        crops(folder)[0, 1]


def test_one_in_a_thousand_is_tolerated(make_folder, monkeypatch):
    folder = make_folder(*[1000] * 12)
    spoil(folder, *range(11))
    dataset = crops(folder)
    assert dataset[0, 0][2] == 11
    loader = batches(dataset, seed=0, first_sample=5000, global_batch=12, steps=1)
    assert {int(clip) for clip in next(loader).clips} == {11}


def cut_short(path, seed):
    """A FLAC file without its end: what lies before can be read."""
    wave = np.random.default_rng(seed).uniform(-0.3, 0.3, 40000)
    soundfile.write(path, wave, 8000, format="FLAC")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])


def test_partly_readable_clips_give_the_same_crops_whatever_was_read_before(make_folder):
    folder = make_folder(*[4000] * 6)
    for number in range(4):
        cut_short(folder / f"9{number}.flac", number)

    def read(first, steps, workers=0):
        loader = batches(crops(folder), seed=0, first_sample=first, global_batch=5, steps=steps, workers=workers)
        return [batch.clips.tolist() for batch in loader]

    whole = read(0, 24)
    assert any(len(set(row)) < 5 for row in whole)  # some crops were replaced
    assert any(index >= 6 for row in whole[12:] for index in row)  # and some of the damaged files read later
    assert read(0, 24, workers=2) == whole
    assert read(60, 12) == whole[12:]  # as after a resume


@pytest.mark.parametrize("workers", [0, 1])
def test_the_error_of_a_worker_arrives_whole(make_folder, workers):
    folder = make_folder(1000, 1000)
    spoil(folder, 0, 1)
    with pytest.raises(AudioError) as caught:
        list(batches(crops(folder), seed=0, first_sample=0, global_batch=2, steps=3, workers=workers))
    assert "Traceback" not in str(caught.value)
    assert "2 clips cannot be read" in caught.value.message
    assert caught.value.hint


# ------------------------------------------------------------------------------------------------ batches


def load(folder, **kwargs):
    settings = {"seed": 3, "first_sample": 0, "global_batch": 4, "steps": 3}
    return list(batches(crops(folder, 600), **settings | kwargs))


@given(
    world=st.sampled_from([1, 2, 3]),
    accumulate=st.sampled_from([1, 2]),
    first=st.integers(0, 40),
    steps=st.integers(0, 4),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=30)
def test_processes_and_micro_batches_share_out_one_global_batch(folder, world, accumulate, first, steps, seed):
    common = {"seed": seed, "first_sample": first, "global_batch": 12, "steps": steps}
    whole = load(folder, **common)
    parts = [load(folder, **common, world=world, rank=rank, accumulate=accumulate) for rank in range(world)]
    assert [len(part) for part in parts] == [steps * accumulate] * world
    for step in range(steps):
        waveform, lengths = torch.zeros(12, 1, 600), torch.zeros(12, dtype=torch.int64)
        taken = []
        for part in parts:
            for batch in part[step * accumulate : (step + 1) * accumulate]:
                rows = slice(batch.first_row, batch.first_row + len(batch.clips))
                waveform[rows], lengths[rows] = batch.waveform, batch.lengths
                taken += range(rows.start, rows.stop)
        assert sorted(taken) == list(range(12))
        assert torch.equal(waveform, whole[step].waveform)
        assert torch.equal(lengths, whole[step].lengths)


def test_rows_of_micro_batches(folder):
    first_rows = [
        [batch.first_row for batch in load(folder, global_batch=8, steps=2, accumulate=2, world=2, rank=rank)]
        for rank in (0, 1)
    ]
    assert first_rows == [[0, 4, 0, 4], [2, 6, 2, 6]]


def test_batches_follow_the_order(folder):
    clips = torch.cat([batch.clips for batch in load(folder, first_sample=7)]).tolist()
    assert clips == [clip for _, clip in clips_for(range(7, 19), 5, 3)]


def test_resuming_gives_the_rest(folder):
    whole, rest = load(folder, steps=5), load(folder, first_sample=8, steps=3)
    for expected, got in zip(whole[2:], rest, strict=True):
        assert torch.equal(expected.waveform, got.waveform)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(folder, workers):
    for expected, got in zip(load(folder, accumulate=2), load(folder, accumulate=2, workers=workers), strict=True):
        assert torch.equal(expected.waveform, got.waveform)
        assert torch.equal(expected.lengths, got.lengths)
        assert torch.equal(expected.clips, got.clips)
        assert expected.first_row == got.first_row


def test_types_and_shapes(folder):
    batch = load(folder)[0].to("cpu")
    assert (batch.waveform.dtype, batch.waveform.shape) == (torch.float32, (4, 1, 600))
    assert (batch.lengths.dtype, batch.lengths.shape) == (torch.int64, (4,))
    assert (batch.clips.dtype, batch.clips.shape) == (torch.int64, (4,))
    assert batch.captions is None


def test_workers_end_when_the_consumer_stops_early(folder):
    stream = batches(crops(folder), seed=0, first_sample=0, global_batch=4, steps=10**6, workers=2)
    next(stream)
    assert len(multiprocessing.active_children()) == 2
    stream.close()
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not multiprocessing.active_children()


def test_an_uneven_batch_is_refused_at_once(folder):
    with pytest.raises(UsageError) as caught:
        batches(crops(folder), seed=0, first_sample=0, global_batch=10, steps=1, world=2, accumulate=3)
    assert "10 clips" in caught.value.message
    assert "multiple of 6" in caught.value.hint


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (2, 1), (4, 3), (64, 4)])
def test_auto_workers_leave_a_core_to_training(monkeypatch, cores, workers):
    monkeypatch.setattr(loader.os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert resolve_workers("auto") == workers


def test_workers_given():
    assert resolve_workers(0) == 0
    assert resolve_workers(7) == 7
    with pytest.raises(UsageError, match="negative"):
        resolve_workers(-1)


@pytest.mark.gpu
def test_batches_reach_the_gpu(folder):
    for batch in batches(crops(folder), seed=0, first_sample=0, global_batch=4, steps=2, workers=1):
        assert batch.waveform.is_pinned()
        assert batch.to("cuda").waveform.is_cuda


# ---------------------------------------------------------------------------------- workers that die or stall


def rows_of(loaded):
    return [batch.clips.tolist() for batch in loaded]


def test_reading_goes_on_after_a_worker_was_killed(make_folder, caplog):
    folder = make_folder(*[1000] * 40)
    arguments = {"seed": 0, "first_sample": 0, "global_batch": 4, "steps": 60}
    whole = rows_of(batches(crops(folder), **arguments))
    before = set(multiprocessing.active_children())
    loading = batches(crops(folder), workers=2, **arguments)
    got = [next(loading).clips.tolist()]
    victim = next(iter(set(multiprocessing.active_children()) - before))
    victim.kill()
    with caplog.at_level(logging.WARNING, logger="ssl_wb"):
        got += rows_of(loading)
    assert got == whole
    assert f"data worker {victim.pid} was ended by SIGKILL" in caplog.text


def test_small_shared_memory_is_not_used(make_folder, caplog, monkeypatch):
    folder = make_folder(*[1000] * 8)
    arguments = {"seed": 0, "first_sample": 0, "global_batch": 4, "steps": 6}
    whole = rows_of(batches(crops(folder), **arguments))
    monkeypatch.setattr(loader, "free_shared_memory", lambda: 1000)
    with caplog.at_level(logging.WARNING, logger="ssl_wb"):
        assert rows_of(batches(crops(folder), workers=1, **arguments)) == whole
    assert "--shm-size" in caplog.text


def test_a_signal_ends_a_wait_for_data(make_folder, monkeypatch):
    folder = make_folder(*[1000] * 8)
    monkeypatch.setattr(loader, "POLL", 0.2)
    dataset = crops(folder)
    monkeypatch.setattr(type(dataset), "crop", lambda *_: time.sleep(60))
    began = time.monotonic()
    with pytest.raises(StoppedWaitingError):
        next(batches(dataset, seed=0, first_sample=0, global_batch=4, steps=1, workers=1, stop=lambda: True))
    assert time.monotonic() - began < 20


def test_new_workers_that_deliver_nothing_are_given_up_soon(make_folder, monkeypatch, caplog):
    folder = make_folder(*[1000] * 40)
    arguments = {"seed": 0, "first_sample": 0, "global_batch": 4, "steps": 60}
    whole = rows_of(batches(crops(folder), **arguments))
    monkeypatch.setattr(loader, "POLL", 0.2)
    monkeypatch.setattr(loader, "PATIENCE_ANEW", 1.0)
    before = set(multiprocessing.active_children())
    loading = batches(crops(folder), workers=1, **arguments)
    got = [next(loading).clips.tolist()]
    (victim,) = set(multiprocessing.active_children()) - before
    # The next worker hangs from its start, as one does that was forked while another thread held a lock.
    monkeypatch.setattr(loader, "_start_worker", lambda _: time.sleep(60))
    victim.kill()
    with caplog.at_level(logging.WARNING, logger="ssl_wb"):
        got += rows_of(loading)
    assert got == whole
    assert "reading goes on in this process" in caplog.text


def test_a_new_worker_that_hangs_is_given_up_after_its_patience(make_folder, monkeypatch, caplog):
    folder = make_folder(*[1000] * 40)
    arguments = {"seed": 0, "first_sample": 0, "global_batch": 4, "steps": 60}
    whole = rows_of(batches(crops(folder), **arguments))
    monkeypatch.setattr(loader, "POLL", 0.2)
    monkeypatch.setattr(loader, "PATIENCE_ANEW", 1.0)
    before = set(multiprocessing.active_children())
    loading = batches(crops(folder), workers=2, **arguments)  # of two one is started anew
    got = [next(loading).clips.tolist()]
    monkeypatch.setattr(loader, "_start_worker", lambda _: time.sleep(20))
    next(iter(set(multiprocessing.active_children()) - before)).kill()
    with caplog.at_level(logging.WARNING, logger="ssl_wb"):
        got += rows_of(loading)
    assert got == whole
    assert "reading goes on with 1 new" in caplog.text
    assert "no batch came for" in caplog.text
    assert "reading goes on in this process" in caplog.text


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_connection_that_breaks_as_a_worker_dies_is_a_lost_worker(error):
    def breaking():
        raise error
        yield

    with pytest.raises(WorkersLostError, match="connection to a data worker broke"):
        wait_for(breaking(), set(), lambda: False)


def test_an_error_within_a_worker_is_none_of_the_connection():
    def failing():
        raise FileNotFoundError("Caught FileNotFoundError in DataLoader worker process 0.")
        yield

    with pytest.raises(FileNotFoundError, match="Caught"):
        wait_for(failing(), set(), lambda: False)

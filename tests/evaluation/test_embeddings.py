"""Embedding a task's clips, and the log-mel baselines."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from ssl_wb.errors import AudioError, DataError
from ssl_wb.evaluation.baselines import LogMelSegments, LogMelStatistics, baselines
from ssl_wb.evaluation.embeddings import embed_task
from ssl_wb.tasks.task import load_task
from task_fakes import Spectrum, labelled, write_manifest


@pytest.fixture
def task(tmp_path):
    return load_task(write_manifest(tmp_path, labelled(30)))


def alone(encoder, task):
    rows = []
    for clip in task.clips:
        wave, _ = soundfile.read(clip.path, dtype="float32")
        rows.append(encoder.embed_clip(torch.from_numpy(wave)[None], torch.tensor([len(wave)]))[0])
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("encoder", [Spectrum, LogMelStatistics, LogMelSegments])
@pytest.mark.parametrize("batch_seconds", [0.01, 1.0, 100.0])
def test_embeddings_are_those_of_each_clip_alone_in_manifest_order(task, encoder, batch_seconds):
    embedded = embed_task(encoder(), task, batch_seconds=batch_seconds)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(embedded, alone(encoder(), task), rtol=1e-4, atol=1e-4)


def test_batches_hold_similar_lengths_and_no_more_audio_than_asked(task):
    encoder = Spectrum()
    embed_task(encoder, task, batch_seconds=1.0)
    assert sum(clips for clips, _ in encoder.batches) == 30
    assert all(clips * samples <= 16000 for clips, samples in encoder.batches)
    longest = [samples for _, samples in encoder.batches]
    assert longest == sorted(longest)
    assert len(encoder.batches) < 12


def test_progress_ends_at_all_clips(task):
    told = []
    embed_task(Spectrum(), task, batch_seconds=1.0, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (30, 30)
    assert told == sorted(told)
    assert len(told) > 1


def test_start_and_duration_of_the_manifest_count(tmp_path):
    rows = labelled(12, start="0.05", duration="0.05")
    encoder = Spectrum()
    embed_task(encoder, load_task(write_manifest(tmp_path, rows)))
    assert encoder.batches == [(12, 800)]


def test_an_embedding_that_is_not_finite_names_the_clip(task):
    class Broken(Spectrum):
        def embed_clip(self, waveform, lengths=None):
            embedded = super().embed_clip(waveform, lengths)
            embedded[0, 1] = float("nan")
            return embedded

    with pytest.raises(DataError, match=r"\d\d\d\.wav: the encoder gives an embedding that is not finite") as caught:
        embed_task(Broken(), task)
    assert caught.value.hint


def test_an_unreadable_clip_is_named(task):
    task.clips[4].path.write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"004\.wav"):
        embed_task(Spectrum(), task)


def test_mean_and_standard_deviation_over_time():
    wave = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    encoder = LogMelStatistics()
    frames = encoder.embed_frames(wave)[0]  # [T, 64]
    embedded = encoder.embed_clip(wave)[0]
    torch.testing.assert_close(embedded[:64], frames.mean(0))
    torch.testing.assert_close(embedded[64:], frames.std(0, correction=0))


def test_segments_are_eight_equal_stretches():
    wave = torch.randn(1, 16 * 160 + 400 - 160, generator=torch.Generator().manual_seed(0))
    encoder = LogMelSegments()
    frames = encoder.embed_frames(wave)[0]
    assert frames.shape == (16, 64)
    torch.testing.assert_close(encoder.embed_clip(wave)[0], frames.view(8, 2, 64).mean(1).flatten())


@pytest.mark.parametrize("samples", [1, 400, 900, 1700])
def test_baselines_embed_clips_of_a_few_frames(samples):
    for encoder in baselines().values():
        embedded = encoder.embed_clip(torch.full((1, samples), 0.1), torch.tensor([samples]))
        assert embedded.isfinite().all()


def test_frames_past_the_end_are_zero():
    frames = LogMelStatistics().embed_frames(torch.randn(2, 4000), torch.tensor([4000, 800]))
    assert frames[1, 3:].abs().max() == 0
    assert frames[1, :3].abs().min() > 0

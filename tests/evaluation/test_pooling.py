"""Pooling of frames: values by hand, alike for encoders and baselines, and a choice that test clips take no part in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ssl_wb.api import Evaluator, PluginOptions, Result
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.errors import DataError, UsageError
from ssl_wb.evaluation.baselines import baselines
from ssl_wb.evaluation.embeddings import embed_task
from ssl_wb.evaluation.encoders import encoders_to_compare
from ssl_wb.evaluation.pooling import CANDIDATES, candidates, check_pool, parts_of, pool_clip, pool_clips
from ssl_wb.evaluation.runner import probe
from ssl_wb.plugin.registry import load_registry
from ssl_wb.report.tables import as_csv, markdown
from ssl_wb.tasks.task import load_task
from ssl_wb.workflows.evaluate import evaluate
from ssl_wb_plugins.backbones.vit import Vit, VitOptions
from ssl_wb_plugins.front_ends.log_mel import LogMel
from task_fakes import labelled, write_manifest


class Late:
    """An encoder whose classes differ only in *when* a frame is 1: their means over time are equal."""

    sample_rate = 16000
    frames = 8

    def embed_frames(self, waveform, lengths=None):
        peak = torch.fft.rfft(waveform).abs().argmax(dim=1) * self.sample_rate / waveform.shape[1]  # Hz
        frames = torch.full((len(waveform), self.frames, 2), 0.5)
        frames[torch.arange(len(waveform)), torch.where(peak > 450, 1, 6), 0] = 1.0  # the clips are tones of 300, 600
        return frames

    def embed_clip(self, waveform, lengths=None):
        return self.embed_frames(waveform).mean(dim=1)


@pytest.fixture
def task(tmp_path):
    splits = ["train", "train", "val", "test"]
    rows = labelled(160, classes="ab", split=lambda n: splits[n // 2 % 4])
    return load_task(write_manifest(tmp_path, rows))


@pytest.fixture(scope="module")
def linear():
    plugin = load_registry().get("evaluator", "linear")
    return [("linear", plugin(plugin.Options(epochs=60)))]


def test_poolings_by_hand():
    frames = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
    assert_close(pool_clip(frames, "mean"), torch.tensor([3.0]))
    assert_close(pool_clip(frames, "mean+std"), torch.tensor([3.0, 5.0**0.5]))
    assert_close(pool_clip(frames, "segments:2"), torch.tensor([1.0, 5.0]))
    # Fewer frames than segments: each segment is one frame.
    assert_close(pool_clip(frames[:2], "segments:4"), torch.tensor([0.0, 0.0, 2.0, 2.0]))


def test_padding_and_the_company_of_other_poolings_change_nothing():
    frames = torch.randn(2, 9, 3)
    joined = pool_clips(frames, [9, 5], CANDIDATES)
    parts = parts_of(joined.numpy(), CANDIDATES)
    assert list(parts) == list(CANDIDATES)
    for pool, part in parts.items():
        assert_close(torch.from_numpy(part[1].copy()), pool_clip(frames[1, :5], pool))


@pytest.mark.parametrize("pool", ["max", "segments", "segments:0", "segments:x", "segments:1000"])
def test_other_words_are_refused(pool):
    with pytest.raises(UsageError, match="no such pooling"):
        check_pool(pool)


def test_auto_takes_the_pooling_of_the_best_validation_score_and_says_so(task, linear):
    (row,) = probe({"late": Late()}, [task], linear, seeds=(0,), pool="auto")
    (mean,) = probe({"late": Late()}, [task], linear, seeds=(0,))
    assert mean.pool == "mean"
    assert mean.result.mean < 0.8
    assert row.result.mean == 1.0
    (pool,) = row.result.settings["pool"].values()
    validation = {
        name: next(iter(scores.values())) for name, scores in row.result.settings["validation by pool"].items()
    }
    assert validation[pool] == max(validation.values()) > validation["mean"]
    assert row.pool == f"auto: {pool}"
    assert row.as_json()["pool"] == row.pool
    # One pooling alone gives the same scores as the choice of it.
    (alone,) = probe({"late": Late()}, [task], linear, seeds=(0,), pool=pool)
    assert alone.result.per_seed == row.result.per_seed
    assert alone.result.interval == row.result.interval


def test_test_labels_take_no_part_in_the_choice(task, linear):
    (split,) = task.splits
    labels = task.labels.copy()
    labels[split.test] = np.random.default_rng(0).permutation(labels[split.test])
    picks = [
        probe({"late": Late()}, [one], linear, seeds=(0,), pool="auto")[0].pool
        for one in (task, replace(task, labels=labels))
    ]
    assert picks[0] == picks[1]


def test_every_split_has_its_own_choice(tmp_path, linear):
    manifest = write_manifest(tmp_path, labelled(120, classes="ab", fold=lambda n: n // 2 % 3))
    (row,) = probe({"late": Late()}, [load_task(manifest)], linear, seeds=(0,), pool="auto")
    assert list(row.result.settings["pool"]) == list(row.result.per_fold)
    assert len(row.result.scores) == 3
    assert set(row.result.settings["chosen"]) == set(row.result.per_fold)


def test_baselines_are_pooled_like_the_encoders(task, linear):
    assert list(baselines("auto")) == [one.name for one in encoders_to_compare({}, pool="auto")] == ["log-mel"]
    rows = probe({"late": Late(), **baselines("mean+std")}, [task], linear, seeds=(0,), pool="mean+std")
    assert [row.pool for row in rows] == ["mean+std", "mean+std"]
    frames = torch.from_numpy(embed_task(baselines("auto")["log-mel"], task, pools=["mean+std"]))
    assert_close(frames, torch.from_numpy(embed_task(baselines()["log-mel mean+std"], task)), rtol=1e-5, atol=1e-4)


def test_the_rows_to_compare_with_are_those_of_the_pooling(tmp_path):
    (tmp_path / "code.py").write_text("")
    encoder, task = f"python:{tmp_path / 'code.py'}:make", tmp_path / "absent.csv"
    with pytest.raises(UsageError, match=r"log-mel mean\+std: no row is named so"):
        evaluate([encoder], [task], pool="auto", baseline="log-mel mean+std")
    with pytest.raises(DataError, match=r"absent\.csv"):  # the baseline is fine
        evaluate([encoder], [task], pool="auto", baseline="log-mel")


def test_tables_say_how_each_row_was_pooled(task, linear):
    mixed = probe({"late": Late(), **baselines()}, [task], linear, seeds=(0,))
    text = markdown(mixed)
    assert "| encoder | pooling |" in text.replace("**", "")
    assert "| log-mel 8 segments | segments:8 |" in text
    assert "Rows differ in how frames are pooled" in text
    assert ",1,mean+std\n" in as_csv(mixed)
    alike = markdown(probe({"late": Late()}, [task], linear, seeds=(0,)))
    assert "pooling" not in alike
    assert "mean over its frames" in alike


def test_an_encoder_without_frames_keeps_its_own_embedding(task, linear, caplog):
    class Clips:
        sample_rate = 16000

        def embed_clip(self, waveform, lengths=None):
            return torch.fft.rfft(waveform, n=64).abs()[:, :8]

    (row,) = probe({"clips": Clips()}, [task], linear, seeds=(0,), pool="auto")
    assert row.pool == "mean"
    assert "gives no frames to pool" in caplog.text


def test_candidates():
    assert candidates("auto") == CANDIDATES
    assert candidates("segments:3") == ("segments:3",)


@pytest.mark.parametrize(
    ("embedding", "width", "pool"),
    [("folded", 5 * 32, "mean"), ("frames", 32, "mean of averaged rows"), ("clip-token", 32, "clip-token")],
)
def test_rows_name_what_the_encoders_embedding_is(task, embedding, width, pool):
    backbone = Vit(VitOptions(dim=32, depth=1, heads=2), 80)
    encoder = FrozenEncoder(LogMel(LogMel.Options(), -7.0, 4.0), backbone, 32, embedding=embedding)
    seen = []

    class Looks(Evaluator):
        """Notes what it gets."""

        name = "looks"

        def __call__(self, task, seeds):
            seen.append(task.embeddings.shape[1])
            return Result(task.name, "looks", "accuracy", 0.0, (0.0, 0.0), {}, [0.0])

    (row,) = probe({"vit": encoder}, [task], [("looks", Looks(PluginOptions()))], seeds=(0,))
    assert (seen, row.pool) == ([width], pool)

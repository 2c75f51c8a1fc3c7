"""A run from a saved data set is the run from the files that were packed into it."""

from __future__ import annotations

import json

import numpy as np

from ssl_wb import load_encoder
from ssl_wb.data.clips import load_clips
from ssl_wb.data.pack import pack_clips
from ssl_wb.encoder.files import embed_clips, gather_clips
from ssl_wb.workflows.pretrain import train


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_losses_and_embeddings_are_those_of_the_files(recipe, corpus, tmp_path):
    packed = tmp_path / "packed"
    pack_clips(load_clips(corpus), packed)
    short = ["train.steps=4", "train.log_every=1"]
    files = train(recipe, out=tmp_path / "a", quiet=True, overrides=short)
    arrow = train(recipe, out=tmp_path / "b", quiet=True, overrides=[*short, f"data.train={packed}", "data.workers=1"])
    assert len(losses(files)) == 4
    assert losses(arrow) == losses(files)
    assert not (packed / ".ssl-wb-statistics.json").exists()  # statistics go to the user's cache
    encoder = load_encoder(files)
    one, other = (embed_clips(encoder, gather_clips([source])) for source in (corpus, packed))
    assert np.array_equal(one.values, other.values)
    assert other.paths[3] == f"{packed}: row 3 (03.flac)"

"""Kept embeddings: found again, and never when they would be wrong."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssl_wb.api import Evaluator
from ssl_wb.encoder.encoder import FrozenEncoder
from ssl_wb.errors import AudioError
from ssl_wb.evaluation import embedding_cache as cache
from ssl_wb.evaluation import embeddings
from ssl_wb.evaluation.baselines import LogMelSegments, LogMelStatistics
from ssl_wb.evaluation.embedding_cache import EmbeddingCache, clips_digest, encoder_digest, user_folder
from ssl_wb.evaluation.runner import probe
from ssl_wb.plugin.registry import load_registry
from ssl_wb.tasks.task import load_task
from ssl_wb_plugins.front_ends.log_mel import LogMel
from task_fakes import Spectrum, labelled, write_manifest


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("clips"), labelled(24))


def encoder(seed=0, mean=0.0, chunk=64, f_min=50.0, **options):
    vit = load_registry().get("backbone", "vit")
    torch.manual_seed(seed)
    section = LogMel.Options.model_validate({"n_mels": 80, "f_min": f_min})
    backbone = vit(vit.Options(size="tiny", **options), 80, 64)
    return FrozenEncoder(LogMel(section, mean, 1.0), backbone, chunk)


def evaluators(*names):
    registry = load_registry()
    kinds = [(name, registry.get("evaluator", name)) for name in names]
    return [(name, kind(kind.Options(**({"epochs": 5} if name == "linear" else {})))) for name, kind in kinds]


@pytest.fixture
def reads(monkeypatch):
    """Counts of files decoded and of headers read."""
    counts = {"read": 0, "info": 0}
    for name in counts:
        original = getattr(embeddings, name)

        def counting(*given, name=name, original=original, **options):
            counts[name] += 1
            return original(*given, **options)

        monkeypatch.setattr(embeddings, name, counting)
    return counts


def test_a_second_evaluator_reads_no_audio_and_agrees(manifest, tmp_path, reads):
    once = probe({"x": encoder()}, [load_task(manifest)], evaluators("knn"), folder=tmp_path)
    assert reads["read"] == 24
    reads.update(read=0, info=0)
    again = probe({"x": encoder()}, [load_task(manifest)], evaluators("linear", "knn"), folder=tmp_path)
    assert reads == {"read": 0, "info": 0}
    assert [row.seconds.cached for row in (*once, *again)] == [False, True, True]
    assert again[1].result.mean == once[0].result.mean
    np.testing.assert_array_equal(again[1].result.per_clip, once[0].result.per_clip)


def test_kept_embeddings_are_those_computed_and_are_mapped(manifest, tmp_path):
    task = load_task(manifest)
    kept = EmbeddingCache(tmp_path, encoder())
    computed, known = kept.get(task.clips, "clip", lambda: embeddings.embed_task(encoder(), task))
    assert not known
    found, known = EmbeddingCache(tmp_path, encoder()).get(task.clips, "clip", lambda: pytest.fail("computed again"))
    assert known
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, computed)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npy"]


def test_levels_are_kept_apart(manifest, tmp_path):
    clips = load_task(manifest).clips
    kept = EmbeddingCache(tmp_path, encoder())
    assert len({kept.file(clips, level) for level in ("clip", "layers", "frames")}) == 3


def test_an_encoder_is_told_from_every_other():
    plain = encoder_digest(encoder())
    assert plain == encoder_digest(encoder())
    finer = encoder()
    with torch.no_grad():
        next(finer.backbone.parameters()).view(-1)[0] += 1e-6
    others = [
        encoder(seed=1),
        encoder(mean=0.1),
        encoder(chunk=128),
        encoder(f_min=40.0),  # another filter bank
        encoder(pool="class", class_token=True),
        finer,
    ]
    digests = {encoder_digest(one) for one in others}
    assert len(digests | {plain}) == 7
    assert encoder_digest(LogMelStatistics()) != encoder_digest(LogMelSegments())
    assert encoder_digest(LogMelStatistics()) == encoder_digest(LogMelStatistics())


BASE = "import torch\n\nclass Base(torch.nn.Module):\n    sample_rate = 16000\n"
PACKAGE = {
    "backbone_kit/__init__.py": "",
    "backbone_kit/shape.py": "from alone_base import Base\nfrom backbone_kit.parts import deep\nclass Net(Base): ...\n",
    "backbone_kit/parts/__init__.py": "",
    "backbone_kit/parts/deep.py": "GAIN = 1\n",
    "alone_base.py": BASE,
    "bystander.py": "",
}


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """A backbone whose class is one file of a package, with its base class in a module of its own."""
    for name, content in PACKAGE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("backbone_kit.shape").Net
    for name in [name for name in sys.modules if name.partition(".")[0] in ("backbone_kit", "alone_base")]:
        del sys.modules[name]


def digest_anew(one):
    """The digest in a process that begins now."""
    cache._code.cache_clear()
    cache._versions.cache_clear()
    return encoder_digest(one)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("backbone_kit/shape.py", True),
        ("backbone_kit/parts/deep.py", True),
        ("backbone_kit/__init__.py", True),
        ("alone_base.py", True),
        ("bystander.py", False),
    ],
)
def test_all_of_a_backbones_package_and_its_base_classes_are_in_the_key(kit, tmp_path, name, counts):
    before = digest_anew(kit())
    assert digest_anew(kit()) == before
    with (tmp_path / name).open("a") as file:
        file.write("# changed\n")
    assert encoder_digest(kit()) == before  # read once per process
    assert (digest_anew(kit()) != before) is counts


def test_of_the_workbench_only_what_embeds_is_in_the_key(monkeypatch):
    """A new table or verb embeds nothing anew."""
    read = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or b"")
    digest_anew(LogMelStatistics())
    cache._code.cache_clear()
    inside = {path.relative_to(Path(cache.__file__).parents[1]).parts[0] for path in read if "ssl_wb" in path.parts}
    assert inside == {"audio", "encoder", "evaluation", "layers", "plugin"}
    assert {path.name for path in read if path.parent.name == "evaluation"} == {
        "baselines.py",
        "embeddings.py",
        "pooling.py",
    }


@pytest.mark.parametrize("library", ["torchaudio", "soundfile"])
def test_versions_of_what_decodes_and_makes_spectrograms_are_in_the_key(library, monkeypatch, request):
    request.addfinalizer(cache._versions.cache_clear)
    before = digest_anew(LogMelStatistics())
    original = cache.version
    monkeypatch.setattr(cache, "version", lambda name: "0.0.0" if name == library else original(name))
    assert digest_anew(LogMelStatistics()) != before


def test_clips_are_told_from_others(tmp_path):
    manifest = write_manifest(tmp_path, labelled(12))
    before = clips_digest(load_task(manifest).clips)
    assert clips_digest(load_task(manifest).clips) == before
    text = manifest.read_text()

    manifest.write_text(text.replace("a,", "c,"))  # other labels: the same audio
    assert clips_digest(load_task(manifest).clips) == before

    manifest.write_text("\n".join(f"{line},{'start' if not n else 0.01}" for n, line in enumerate(text.splitlines())))
    assert clips_digest(load_task(manifest).clips) != before

    manifest.write_text(text)
    clip = load_task(manifest).clips[3].path
    status = clip.stat()
    os.utime(clip, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert clips_digest(load_task(manifest).clips) != before


def test_a_file_that_changed_is_embedded_anew(tmp_path, reads):
    manifest = write_manifest(tmp_path / "clips", labelled(24))
    probe({"x": encoder()}, [load_task(manifest)], evaluators("knn"), folder=tmp_path / "kept")
    first, second = (load_task(manifest).clips[row].path for row in (0, 1))
    first.write_bytes(second.read_bytes())
    reads.update(read=0, info=0)
    (row,) = probe({"x": encoder()}, [load_task(manifest)], evaluators("knn"), folder=tmp_path / "kept")
    assert not row.seconds.cached
    assert reads["read"] == 24


@pytest.mark.parametrize("how", ["written over", "replaced"])
def test_audio_of_equal_size_and_date_is_told_from_what_it_replaced(tmp_path, how):
    clips = load_task(write_manifest(tmp_path, labelled(12))).clips
    before = clips_digest(clips)
    audio, status = clips[0].path, clips[0].path.stat()
    other = audio if how == "written over" else tmp_path / "other"
    other.write_bytes(audio.read_bytes()[::-1])
    other.replace(audio)
    os.utime(audio, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert clips_digest(clips) != before


def test_a_broken_file_is_embedded_anew(manifest, tmp_path, caplog):
    task = load_task(manifest)
    kept = EmbeddingCache(tmp_path, encoder())
    kept.get(task.clips, "clip", lambda: np.ones((24, 3), np.float32))
    kept.file(task.clips, "clip").write_bytes(b"half a file")
    values, known = kept.get(task.clips, "clip", lambda: np.zeros((24, 3), np.float32))
    assert not known
    assert values.max() == 0
    assert "embedding anew" in caplog.text
    assert kept.get(task.clips, "clip", lambda: pytest.fail("computed again"))[1]


def test_a_folder_that_cannot_be_written_costs_time_only(manifest, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    task = load_task(manifest)
    kept = EmbeddingCache(tmp_path / "file" / "kept", encoder())
    for _ in range(2):
        assert not kept.get(task.clips, "clip", lambda: np.zeros((24, 3), np.float32))[1]
    assert "could not be kept" in caplog.text


def test_an_encoder_that_cannot_be_told_from_another_is_not_kept(manifest, tmp_path):
    assert encoder_digest(Spectrum()) is None
    probe({"x": Spectrum()}, [load_task(manifest)], evaluators("knn"), folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_statistics_are_kept_in_the_users_cache(manifest):
    folder = user_folder()
    probe({"plain": LogMelStatistics()}, [load_task(manifest)], evaluators("knn"), folder=folder)
    (row,) = probe({"plain": LogMelStatistics()}, [load_task(manifest)], evaluators("knn"), folder=folder)
    assert row.seconds.cached
    assert folder.parts[-2:] == ("ssl-wb", "embeddings")


def test_layers_and_frames_of_a_real_encoder_agree_with_its_clip_embedding(manifest):
    task = load_task(manifest)
    clip, layers, frames = (
        embeddings.embed_task(encoder(), task, level=level) for level in ("clip", "layers", "frames")
    )
    assert layers.shape[:2] == (24, 12)
    np.testing.assert_allclose(layers[:, -1], clip, rtol=1e-4, atol=1e-5)
    counts = embeddings.frame_counts(frames)
    np.testing.assert_allclose(frames.sum(axis=1) / counts[:, None], clip, rtol=1e-4, atol=1e-5)


def test_evaluators_want_clips_unless_they_say_otherwise():
    assert Evaluator.level == "clip"


def test_batches_encoded_side_by_side_give_the_same(manifest):
    task = load_task(manifest)
    alone = embeddings.embed_task(encoder(), task, batch_seconds=0.5)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = embeddings.embed_task(encoder(), task, batch_seconds=0.5)
        assert torch.get_num_threads() == 2
        broken = task.clips.clips[5].path
        sound = broken.read_bytes()
        broken.write_bytes(b"no audio")
        try:
            with pytest.raises(AudioError, match=broken.name):
                embeddings.embed_task(encoder(), task, batch_seconds=0.5)
        finally:
            broken.write_bytes(sound)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)

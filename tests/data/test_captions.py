"""Captions to embeddings: which, how wide, kept where, and drawn how."""

from __future__ import annotations

import pickle
import types

import numpy as np
import pytest

from ssl_wb.data import captions
from ssl_wb.data.captions import CaptionCounts, CaptionTable, check_captions
from ssl_wb.data.clips import load_clips
from ssl_wb.data.order import caption_random
from ssl_wb.errors import DataError
from ssl_wb.recipe.schema import CaptionsSection

HASHED = CaptionsSection(encoder="hashing", dim=64)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ssl-wb"


@pytest.fixture
def manifest(make_folder):
    """Write a manifest of as many clips as rows."""

    def write(header, *rows):
        folder = make_folder(*[100] * len(rows))
        lines = [f"path,{header}", *(f"{index:03d}.wav,{row}" for index, row in enumerate(rows))]
        (folder / "m.csv").write_text("\n".join(lines))
        return folder / "m.csv"

    return write


@pytest.fixture
def package(monkeypatch):
    """A stand-in for sentence-transformers: an embedding is length, number of words, 0 ...; counts what it is given."""
    seen = []

    class SentenceTransformer:
        def __init__(self, name):
            if name == "nobody/nothing":
                raise OSError("no such model")

        def encode(self, texts, **settings):
            seen.append(list(texts))
            rows = np.zeros((len(texts), 8), np.float64)
            rows[:, 0] = [len(text) for text in texts]
            rows[:, 1] = [len(text.split()) for text in texts]
            return rows

    monkeypatch.setitem(
        __import__("sys").modules,
        "sentence_transformers",
        types.SimpleNamespace(SentenceTransformer=SentenceTransformer),
    )
    return seen


def rows_of(table, index, draws=60):
    return {table.row(index, caption_random(0, epoch, index)).tobytes() for epoch in range(draws)}


def refused(manifest, section=HASHED):
    with pytest.raises(DataError) as caught:
        CaptionTable.build(load_clips(manifest), section)
    return caught.value


# ------------------------------------------------------------------------------------------------ manifest


def test_columns_of_a_manifest(manifest):
    path = manifest("caption,caption_embedding", '"a dog, barking | a dog |a dog",', ",e/1.npy")
    (path.parent / "e").mkdir()
    np.save(path.parent / "e/1.npy", np.zeros(3))
    clips = load_clips(path)
    assert clips[0].captions == ("a dog, barking", "a dog")
    assert clips[0].caption_embedding is None
    assert clips[1].captions == ()
    assert clips[1].caption_embedding == path.parent / "e/1.npy"


def test_an_embedding_that_is_not_there_is_a_mistake_of_the_manifest(manifest):
    with pytest.raises(DataError, match=r"line 2: no such file: 'e\.npy'"):
        load_clips(manifest("caption_embedding", "e.npy"))


# ------------------------------------------------------------------------------------------------- sources


def test_each_distinct_caption_is_embedded_once_and_drawn_for_its_clips(manifest, package):
    path = manifest("caption", "a dog|two dogs bark", "rain", "a dog")
    clips = load_clips(path)
    table = CaptionTable.build(clips, CaptionsSection(dim=8))
    assert package == [["a dog", "two dogs bark", "rain"]]
    assert table.embeddings.shape == (3, 8)
    row = table.row(1, caption_random(0, 0, 1))
    assert row.dtype == np.float32
    assert row.tolist() == [4, 1, 0, 0, 0, 0, 0, 0]
    assert rows_of(table, 0) == {np.array(values + [0] * 6, np.float32).tobytes() for values in ([5, 2], [13, 3])}
    assert rows_of(table, 2) == {np.array([5, 2] + [0] * 6, np.float32).tobytes()}
    assert check_captions(clips, CaptionsSection(dim=8)) == CaptionCounts(total=4, distinct=3)


def test_a_row_is_a_function_of_its_generator(manifest):
    table = CaptionTable.build(load_clips(manifest("caption", "a|b|c|d")), HASHED)
    drawn = [table.row(0, caption_random(3, epoch, 0)).tobytes() for epoch in range(20)]
    assert drawn == [table.row(0, caption_random(3, epoch, 0)).tobytes() for epoch in range(20)]
    assert drawn != [table.row(0, caption_random(4, epoch, 0)).tobytes() for epoch in range(20)]


def test_labels_make_captions(manifest, package):
    section = CaptionsSection(source="label", template="the sound of {}.", dim=8)
    CaptionTable.build(load_clips(manifest("label", "dog;{rain}", "dog")), section)
    assert package == [["the sound of dog.", "the sound of {rain}."]]


def test_embeddings_made_elsewhere(manifest):
    path = manifest("caption_embedding", "one.npy", "two.npy", "one.npy")
    np.save(path.parent / "one.npy", np.arange(3, dtype=np.float64))
    np.save(path.parent / "two.npy", np.array([[7, 8, 9], [4, 5, 6]], np.float16))
    clips = load_clips(path)
    section = CaptionsSection(source="embedding", dim=3)
    table = CaptionTable.build(clips, section)
    assert table.embeddings.tolist() == [[0, 1, 2], [7, 8, 9], [4, 5, 6]]
    assert rows_of(table, 2) == {np.arange(3, dtype=np.float32).tobytes()}
    assert rows_of(table, 1) == {np.array(values, np.float32).tobytes() for values in ([7, 8, 9], [4, 5, 6])}
    assert check_captions(clips, section) == CaptionCounts(total=4, distinct=3)
    np.save(path.parent / "one.npy", np.full((2, 3), 5.0))
    assert CaptionTable.build(clips, section).embeddings[0].tolist() == [5, 5, 5]


def test_hashing_knows_words_and_pairs_of_words(manifest):
    path = manifest("caption", "a dog barks", "A dog barks!", "barks dog a", "rain")
    table = CaptionTable.build(load_clips(path), CaptionsSection(encoder="hashing", dim=4096))
    one, same, turned, other = (table.row(index, caption_random(0, 0, index)) for index in range(4))
    np.testing.assert_array_equal(one, same)
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)
    assert 0.2 < one @ turned < 0.8  # its words, not its pairs
    assert one @ other == 0.0


# --------------------------------------------------------------------------------------------------- cache


def files(cache):
    return sorted(cache.glob("captions-*"))


def test_the_table_is_kept_in_the_users_cache_and_mapped(manifest, package, cache):
    path = manifest("caption", "a dog", "rain")
    section = CaptionsSection(dim=8)
    first = CaptionTable.build(load_clips(path), section)
    again = CaptionTable.build(load_clips(path), section)
    assert len(package) == 1
    assert not list(path.parent.glob("m.csv.*"))  # nothing beside the data
    assert [file.suffix for file in files(cache)] == [".npy"]  # and nothing half written
    assert isinstance(again.embeddings, np.memmap)
    np.testing.assert_array_equal(first.embeddings, again.embeddings)


def test_other_captions_encoder_or_width_make_another_table(manifest, package, cache):
    CaptionTable.build(load_clips(manifest("caption", "a dog", "rain")), CaptionsSection(dim=8))
    path = manifest("caption", "a dog", "snow")
    CaptionTable.build(load_clips(path), CaptionsSection(dim=8))
    CaptionTable.build(load_clips(path), CaptionsSection(dim=8, encoder="another"))
    assert len(package) == 3
    CaptionTable.build(load_clips(path), HASHED)
    CaptionTable.build(load_clips(path), CaptionsSection(encoder="hashing", dim=32))
    assert len(files(cache)) == 5


def test_a_spoilt_table_is_made_anew(manifest, package, cache):
    path = manifest("caption", "a dog", "rain")
    CaptionTable.build(load_clips(path), CaptionsSection(dim=8))
    (file,) = files(cache)
    file.write_bytes(file.read_bytes()[:-4])
    assert CaptionTable.build(load_clips(path), CaptionsSection(dim=8)).embeddings[1, 0] == 4
    assert len(package) == 2


def test_a_table_beside_the_manifest_of_an_older_version_is_read(manifest, package, cache):
    path = manifest("caption", "a dog")
    CaptionTable.build(load_clips(path), CaptionsSection(dim=8))
    (file,) = files(cache)
    key = file.name.split("-")[1]
    file.rename(path.with_name(f"m.csv.captions-{key}.npy"))
    CaptionTable.build(load_clips(path), CaptionsSection(dim=8))
    assert len(package) == 1


def test_where_nothing_can_be_written_the_table_stays_in_memory(manifest, monkeypatch):
    path = manifest("caption", "a dog", "rain")
    expected = CaptionTable.build(load_clips(path), HASHED).embeddings
    monkeypatch.setattr(captions, "cache_files", lambda *_: (None, path))
    table = CaptionTable.build(load_clips(path), HASHED)
    assert not isinstance(table.embeddings, np.memmap)
    np.testing.assert_array_equal(table.embeddings, expected)


def test_a_worker_maps_the_table_instead_of_getting_a_copy(manifest):
    path = manifest("caption", *[f"caption {index}" for index in range(200)])
    table = CaptionTable.build(load_clips(path), HASHED)
    sent = pickle.dumps(table)
    assert len(sent) < table.embeddings.nbytes / 4
    copy = pickle.loads(sent)
    assert isinstance(copy.embeddings, np.memmap)
    np.testing.assert_array_equal(copy.embeddings, table.embeddings)


# ------------------------------------------------------------------------------------------------ mistakes


def test_clips_without_a_caption_are_counted_and_named(manifest):
    error = refused(manifest("caption,label", "a dog,", *[",dog"] * 7))
    assert "7 of 8 clips have no caption" in error.message
    assert "001.wav" in error.message
    assert "and 2 more" in error.message
    assert "source = 'label'" in error.hint
    with pytest.raises(DataError, match="1 of 8 clips have no label"):
        check_captions(load_clips(manifest("caption,label", "a dog,", *[",dog"] * 7)), CaptionsSection(source="label"))


def test_an_encoder_of_another_width(manifest, package):
    path = manifest("caption", "a dog")
    error = refused(path, CaptionsSection())
    assert "makes embeddings of 8 numbers, and data.captions.dim is 768" in error.message
    assert error.hint == "Set data.captions.dim = 8."
    assert not files(path)


def test_embedding_files_that_cannot_be_used_are_all_told(manifest):
    path = manifest("caption_embedding", "wide.npy", "whole.npy", "text.npy", "right.npy", "deep.npy")
    np.save(path.parent / "wide.npy", np.zeros(4))
    np.save(path.parent / "whole.npy", np.zeros(3, np.int64))
    (path.parent / "text.npy").write_text("no array")
    np.save(path.parent / "right.npy", np.zeros(3))
    np.save(path.parent / "deep.npy", np.zeros((1, 1, 3)))
    error = refused(path, CaptionsSection(source="embedding", dim=3))
    assert "4 of 5 caption embeddings cannot be used" in error.message
    assert "wide.npy: embeddings of 4 numbers, and data.captions.dim is 3" in error.message
    assert "text.npy: cannot be read as .npy" in error.message


def test_embeddings_that_are_not_finite(manifest):
    path = manifest("caption_embedding", "e.npy")
    np.save(path.parent / "e.npy", np.array([1.0, np.nan, 2.0]))
    assert "not finite" in refused(path, CaptionsSection(source="embedding", dim=3)).message


def test_a_missing_package_says_what_to_install(manifest, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)  # its import fails
    error = refused(manifest("caption", "a dog"), CaptionsSection())
    assert "needs sentence-transformers" in error.message
    assert "pip install 'ssl-wb[captions]'" in error.hint


def test_a_model_that_does_not_load(manifest, package):
    error = refused(manifest("caption", "a dog"), CaptionsSection(encoder="nobody/nothing"))
    assert "'nobody/nothing' cannot be loaded: no such model" in error.message

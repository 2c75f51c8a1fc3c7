"""``hf://OWNER/NAME``: read offline from a cache folder in the hub's own layout, which the tests make."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from imported import only, waveforms
from ssl_wb import load_encoder
from ssl_wb.encoder.external import check_external, is_external, load_external
from ssl_wb.encoder.importing.convert import import_checkpoint
from ssl_wb.encoder.importing.hub import hub_place
from ssl_wb.errors import DataError, UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cache(root: Path, files: dict[str, Path], repository: str = "someone/eat-tiny") -> Path:
    """Write files into a cache as the hub's client lays it out; return the folder of the blobs."""
    folder = root / ("models--" + repository.replace("/", "--"))
    snapshot, blobs = folder / "snapshots" / COMMIT, folder / "blobs"
    for place in (snapshot, blobs, folder / "refs"):
        place.mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    (folder / "refs" / "v1").write_text(COMMIT)
    for name, file in files.items():
        content = file.read_bytes()
        blob = blobs / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    return blobs


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache with one repository, and no network."""
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = only("inference_eat_hf")[0]
    cache(tmp_path, {file.name: file for file in folder.iterdir()})
    return tmp_path


@pytest.mark.parametrize("revision", ["", "@main", "@v1", f"@{COMMIT}"])
def test_a_repository_in_the_cache_is_read_offline(hub, revision):
    found = import_checkpoint(f"hf://someone/eat-tiny{revision}")
    assert found.parts.about["system"] == "eat"
    assert found.parts.about["source"]["revision"] == COMMIT
    (waveform, _) = waveforms().values()
    local = import_checkpoint(only("inference_eat_hf")[0]).encoder
    assert_close(load_encoder(f"hf://someone/eat-tiny{revision}").embed_clip(waveform), local.embed_clip(waveform))


def test_a_file_of_a_repository_can_be_named(hub):
    cache(hub, {"weights/iter3.pt": only("inference_beats.pt")[0]}, "someone/beats-tiny")
    found = import_checkpoint("hf://someone/beats-tiny/weights/iter3.pt")
    assert found.parts.about["system"] == "beats"
    with pytest.raises(UsageError, match=r"no file 'weights/iter4\.pt'"):
        import_checkpoint("hf://someone/beats-tiny/weights/iter4.pt")


def test_what_is_not_cached_is_told_without_network(hub):
    with pytest.raises(UsageError, match="not in the cache") as caught:
        load_encoder("hf://someone/absent")
    assert "HF_HUB_OFFLINE" in caught.value.hint


def test_a_damaged_file_of_the_cache_is_refused(hub):
    blobs = hub / "models--someone--eat-tiny" / "blobs"
    for blob in blobs.iterdir():
        if blob.stat().st_size > 10_000:
            blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match="checksum differs"):
        import_checkpoint("hf://someone/eat-tiny")


@pytest.mark.parametrize("text", ["hf://", "hf://owner", "hf://owner/name@", "hf:///name", "hf://a b/c"])
def test_places_of_another_form_are_refused(text):
    with pytest.raises(UsageError, match="expected hf://OWNER/NAME"):
        hub_place(text)


def test_evaluate_and_embed_take_places_of_the_hub(hub):
    assert is_external("hf://someone/eat-tiny")
    check_external("hf://someone/eat-tiny")
    with pytest.raises(UsageError):
        check_external("hf://someone")
    encoder = load_external("hf://someone/eat-tiny")
    assert encoder.embed_clip(torch.zeros(1, 16000) + 0.01).shape == (1, encoder.backbone.dim)

"""Uploading an exported folder to the hub, against a stand-in of its client."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from ssl_wb.cli.main import run as command

RUN = Path(__file__).parents[1] / "fixtures" / "run-0.1"


class ConnectError(Exception):
    """As the HTTP client of huggingface_hub raises it; its name differs from version to version."""

    __module__ = "httpx._exceptions"


class Hub:
    """Notes what it is asked; raises ``failure`` where there is one."""

    def __init__(self, failure=None):
        self.failure, self.made, self.files = failure, None, []

    def create_repo(self, repository, *, private, exist_ok):
        if self.failure:
            raise self.failure
        assert exist_ok
        self.made = (repository, private)

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        assert repo_id == self.made[0]
        self.files = sorted(path.name for path in Path(folder_path).iterdir())
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    return hub


def export(out, *more):
    return command(["export", str(RUN), "--out", str(out), *more])


def test_a_folder_is_uploaded_private_unless_said(hub, tmp_path, capsys):
    assert export(tmp_path / "one", "--push", "lab/mine") == 0
    assert hub.made == ("lab/mine", True)
    assert hub.files == ["README.md", "config.json", "model.safetensors", "recipe.toml", "training.png"]
    assert "https://hub/lab/mine/commit/1" in capsys.readouterr().err
    assert "![Losses over the steps](training.png)" in (tmp_path / "one" / "README.md").read_text()
    assert export(tmp_path / "two", "--push", "lab/mine", "--public") == 0
    assert hub.made == ("lab/mine", False)


@pytest.mark.parametrize(
    ("failure", "says", "hint"),
    [
        (OfflineModeIsEnabled("offline"), "cannot be reached (OfflineModeIsEnabled)", "HF_HUB_OFFLINE"),
        (ConnectError("no route"), "cannot be reached (ConnectError)", "hf upload lab/mine"),
        (
            HfHubHTTPError("403 Forbidden", response=Mock()),
            "the hub refuses it (HfHubHTTPError: 403 Forbidden",
            "HF_TOKEN",
        ),
    ],
)
def test_a_failing_upload_leaves_the_folder(failure, says, hint, hub, tmp_path, capsys):
    hub.failure = failure
    assert export(tmp_path / "one", "--push", "lab/mine") == 2
    error = capsys.readouterr().err
    assert says in error
    assert hint in error
    assert "is written and complete" in error
    assert (tmp_path / "one" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--push", "mine"], "expected OWNER/NAME"),
        (["--push", "hf://lab/mine"], "expected OWNER/NAME"),
        (["--push", "lab/mine/more"], "expected OWNER/NAME"),
        (["--public"], "is about --push"),
    ],
)
def test_what_is_typed_wrong_is_told_before_the_work(arguments, says, hub, tmp_path, capsys):
    assert export(tmp_path / "one", *arguments) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "one").exists()


def test_an_export_of_an_export_keeps_what_is_known_of_the_training(tmp_path):
    assert export(tmp_path / "one", "--licence", "cc0-1.0") == 0
    assert command(["export", str(tmp_path / "one"), "--out", str(tmp_path / "two"), "--for", "xares"]) == 0
    first, second = ((tmp_path / name / "README.md").read_text() for name in ("one", "two"))
    for part in ("license: cc0-1.0", "| 12 | 192 |", "sound scenes | linear | accuracy", "0 to 0.4", "## Limits"):
        assert part in first
        assert second.count(part) == first.count(part)
    for name in ("recipe.toml", "training.png", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

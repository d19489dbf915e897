"""Models of the Hub; the library is real, the network is a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import asr
from asr.errors import BundleError, ConfigError
from asr.packaging.bundle import Bundle
from asr.packaging.hub import download
from asr.packaging.package import publish

hub = pytest.importorskip("huggingface_hub")
pytest.importorskip("torch")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where uploads go, and downloads come from."""
    folder = tmp_path / "shelf"

    def fetch(repo_id: str, revision: str | None = None) -> str:
        if not (folder / repo_id).is_dir():
            raise hub.errors.LocalEntryNotFoundError("no such model")
        return str(folder / repo_id)

    def put(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        shutil.copytree(folder_path, folder / repo_id)

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    monkeypatch.setattr(hub.HfApi, "create_repo", lambda self, name, **_: None)
    monkeypatch.setattr(hub.HfApi, "upload_folder", put)
    return folder


def test_a_model_goes_up_and_comes_down(tone_bundle: Bundle, shelf: Path) -> None:
    assert publish(tone_bundle, "someone/tones") == "hf://someone/tones"
    card = (shelf / "someone/tones/README.md").read_text()
    assert card.startswith('---\nlanguage: "en"\n')
    assert "A model for tests." in card
    for address in ("hf://someone/tones", "hf://someone/tones@v1", Path("hf://someone/tones")):
        assert Bundle.load(address).config.name == "tones"
    assert asr.load("hf://someone/tones", decoder="greedy").bundle.config.name == "tones"


def test_what_changed_on_the_way_is_refused(tone_bundle: Bundle, shelf: Path) -> None:
    publish(tone_bundle, "someone/tones")
    (shelf / "someone/tones/model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="checksum"):
        Bundle.load("hf://someone/tones")


def test_errors_name_the_remedy(shelf: Path) -> None:
    with pytest.raises(BundleError, match="cannot be fetched"):
        download("hf://someone/nothing")
    with pytest.raises(ConfigError, match="hf://owner/name"):
        download("hf://nothing")

"""A bundle proves that it is intact, and says why it is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from asr.errors import BundleError, ConfigError
from asr.features import FeatureConfig
from asr.packaging import bundle
from asr.packaging.bundle import Bundle, BundleConfig
from asr.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary.characters("ab")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    features = FeatureConfig(n_mels=2, mean=(0.5, 1.0), std=(2.0, 3.0))
    config = BundleConfig(
        "small", "en", features, 0.06, {"layers": 2}, {"beam": 8}, {"data": ["a", "b"]}
    )
    (tmp_path / "weights").write_bytes(b"w" * 10)
    files = {"model.onnx": b"graph", "model.safetensors": tmp_path / "weights"}
    created = Bundle.create(tmp_path / "models/small", config, VOCABULARY, files, "# Small\n")
    loaded = Bundle.load(tmp_path / "models/small")
    assert loaded == created
    assert loaded.config == config
    assert loaded.vocabulary == VOCABULARY
    assert loaded.card == "# Small\n"
    assert loaded.model_path.read_bytes() == b"graph"
    assert loaded.weights_path is not None
    assert loaded.files["model.safetensors"] == 10
    assert loaded.lm_path is None


def test_create_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    config = BundleConfig("small", "en", FeatureConfig.modern(), 0.03)
    with pytest.raises(BundleError, match="exists already"):
        Bundle.create(tmp_path, config, VOCABULARY, {"model.onnx": b""}, "")
    with pytest.raises(BundleError, match=r"lacks model\.onnx"):
        Bundle.create(tmp_path / "new", config, VOCABULARY, {}, "")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_a_nameless_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="may not be empty"):
        BundleConfig("", "en", FeatureConfig.modern(), 0.03)


def change(name: str, /, **settings: object) -> Callable[[Path], None]:
    """Rewrite a JSON file of the bundle, and its checksum, so that only the content is wrong."""

    def apply(folder: Path) -> None:
        data = json.loads((folder / name).read_text())
        data = {key: value for key, value in (data | settings).items() if value is not None}
        (folder / name).write_text(json.dumps(data))
        if name != bundle.CHECKSUMS:
            sums = json.loads((folder / bundle.CHECKSUMS).read_text())
            sums[name] = bundle._sha256(folder / name)
            (folder / bundle.CHECKSUMS).write_text(json.dumps(sums))

    return apply


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: void((folder / name).write_bytes(content))


def void(_: object) -> None:
    return None


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: shutil.rmtree(folder), "no such folder"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json in it"),
        (lambda folder: (folder / "model.onnx").unlink(), "model.onnx cannot be read: No such"),
        (lambda folder: (folder / "checksums.json").unlink(), "cannot be read: No such file"),
        (write("model.onnx", b"other"), "model.onnx is not the file"),
        (write("config.json", b"{"), "not JSON"),
        (write("config.json", b"[" * 100_000), "not JSON"),
        (write("config.json", b"[]"), "not a JSON object"),
        (write("config.json", b'{"a": 1}'), "not a model of ours: its config.json has format None"),
        (write("config.json", b"\xff"), "not JSON"),
        (change("config.json", version=2), "version 2, this program reads up to 1"),
        (change("config.json", version="1"), "has version '1'"),
        (change("config.json", surprise=1), "unknown settings: surprise"),
        (change("config.json", name=None), "lacks a name"),
        (change("config.json", frame_shift="x"), "lacks a name, a language, a frame_shift"),
        (change("config.json", decoder=[]), "lacks a name"),
        (change("config.json", features={"mels": 1}), "features.mels"),
        (change("config.json", features={"stack": 0}), "at least 1"),
        (change("vocabulary.json", symbols=["a"]), "blank"),
        (change("checksums.json", **{"config.json": None}), "lacks config.json"),
        (change("checksums.json", **{"../config.json": "0"}), "outside the folder"),
    ],
)
def test_a_damaged_bundle_is_refused(
    tone_bundle: Bundle, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tone_bundle.folder, folder)
    assert Bundle.load(folder).config == tone_bundle.config
    damage(folder)
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    assert reason in str(caught.value)
    assert str(folder) in str(caught.value)


def fifo(name: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return apply


def link(name: str, target: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return apply


def sparse(name: str, size: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with (folder / name).open("r+b") as file:
            file.truncate(size)

    return apply


FILES = ("config.json", "vocabulary.json", "model.onnx", "README.md", "checksums.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("target", ["/dev/zero", "/dev/stdin", ".", "nothing"])
def test_links_to_what_is_no_file_are_refused(
    tone_bundle: Bundle, tmp_path: Path, name: str, target: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tone_bundle.folder, folder)
    link(name, target)(folder)
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    assert caught.value.remedy


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [fifo, lambda name: sparse(name, 1 << 42)])
def test_what_hangs_or_never_ends_is_refused_at_once(
    tone_bundle: Bundle, tmp_path: Path, name: str, damage: Callable[[str], Callable[[Path], None]]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tone_bundle.folder, folder)
    damage(name)(folder)
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    assert caught.value.remedy


def test_links_to_files_are_read(tone_bundle: Bundle, tmp_path: Path) -> None:
    for name in FILES:
        (tmp_path / name).symlink_to(tone_bundle.folder / name)
    assert Bundle.load(tmp_path).config == tone_bundle.config


@pytest.mark.parametrize("name", ["lm.bin", "decoder.onnx", "rescorer.onnx", "more.safetensors"])
def test_files_that_the_checksums_lack_are_refused(
    tone_bundle: Bundle, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tone_bundle.folder, folder)
    for harmless in ("NOTES.md", ".gitattributes", "curves.png"):
        (folder / harmless).write_bytes(b"x")
    Bundle.load(folder)
    (folder / name).write_bytes(b"x")
    with pytest.raises(BundleError, match=f"{name}: not in checksums.json"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_an_impossible_name_is_no_bundle(name: str) -> None:
    with pytest.raises(BundleError):
        Bundle.load(name)


def test_a_file_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(BundleError, match="no such folder"):
        Bundle.load(tmp_path / "a")


def test_an_unknown_language_has_no_bundled_model() -> None:
    with pytest.raises(BundleError, match="no model for 'tlh'"):
        bundle.bundled("tlh")

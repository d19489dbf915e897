"""`asr-prepare folder`: what people have in their folders is used, or counted and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data.manifest import read_manifest

SAMPLE = Path(__file__).parents[2] / "samples" / "the-upper-house.wav"


@pytest.fixture
def folder(tmp_path):
    """A folder to fill: `add(name)` puts a recording there, `add(name, text)` a text."""

    def add(name: str, content: str | bytes | None = None) -> Path:
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            soundfile.write(path, np.full(8000, 0.01), 16_000, format="WAV")
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    add.root = tmp_path / "mine"
    return add


@pytest.fixture
def prepared(run, folder, tmp_path):
    """Prepare the folder: exit status, output with errors, and the texts by split."""

    def call(*options):
        code, out, err = run(
            "folder", "--from-folder", folder.root, "--to", tmp_path / "out", *options
        )
        manifests = sorted((tmp_path / "out" / "folder").glob("*.jsonl"))
        return code, out + err, {p.stem: [u.text for u in read_manifest(p)] for p in manifests}

    return call


def test_one_text_in_another_encoding_is_read_and_told(folder, prepared):
    for name, data in {
        "plain": b"one",
        "marked": "two".encode("utf-8-sig"),
        "wide": "café three".encode("utf-16"),
        "latin": "naïve four".encode("latin-1"),
        "windows": "“five” – it’s".encode("cp1252"),
        "lines": b"six\r\n\tseven\r\n",
    }.items():
        folder(f"{name}.wav")
        folder(f"{name}.txt", data)
    code, out, texts = prepared()
    assert code == 0
    assert sorted(texts["train"]) == [
        "cafe three", "five it's", "naive four", "one", "six seven", "two",
    ]  # fmt: skip
    assert "1 with a text read as utf-16, not UTF-8: wide" in out
    assert "2 with a text read as cp1252, not UTF-8: latin, windows" in out


def test_a_text_that_cannot_be_read_is_named_and_the_others_go_on(folder, prepared):
    folder("good.wav"), folder("good.txt", "fine")
    folder("korean.wav"), folder("korean.txt", "안녕하세요".encode("cp949"))
    folder("binary.wav"), folder("binary.txt", bytes(range(200)))
    code, out, texts = prepared()
    assert code == 0
    assert texts == {"train": ["fine"]}
    assert "korean.txt" in out
    assert "binary.txt" in out
    assert "left out: a text that cannot be read" in out


def test_what_has_no_counterpart_is_counted_and_named(folder, prepared):
    folder("a.wav"), folder("a.txt", "yes")
    for i in range(12):
        folder(f"silent-{i:02}.wav")
    folder("notes.txt", "nothing to hear")
    folder("empty.wav"), folder("empty.txt", " \n")
    folder("._a.wav", b"junk of another system")
    _, out, texts = prepared()
    assert texts == {"train": ["yes"]}
    assert "12 left out: no transcript beside it: " in out
    assert "silent-00.wav" in out
    assert " and 2 more" in out
    assert "1 left out: a text without a recording: " in out
    assert "notes.txt" in out
    assert "1 left out: no text: empty" in out
    assert "._a" not in out


def test_names_match_whatever_their_case(folder, prepared):
    folder("A.WAV"), folder("A.TXT", "upper")
    folder("b.Wav"), folder("B.txt", "mixed")
    folder("c.wav"), folder("c.TXT", "loud"), folder("c.txt", "soft")
    folder("TRAIN.LAB", "a text alone")
    _, out, texts = prepared()
    assert sorted(texts["train"]) in (["loud", "mixed", "upper"], ["mixed", "soft", "upper"])
    assert "TRAIN.LAB" in out


def test_what_lies_outside_of_the_splits_is_named(folder, prepared):
    for place in ("Train/ann", "dev/bob", "extra", "."):
        folder(f"{place}/x.wav"), folder(f"{place}/x.txt", f"in {place}")
    _, out, texts = prepared()
    assert texts == {"train": ["in train ann"], "dev": ["in dev bob"]}
    assert "2 left out: in none of the folders" in out


def test_numbers_are_spelled_without_being_asked(folder, prepared):
    folder("a.wav"), folder("a.txt", "It cost $5.50 & more.")
    _, out, texts = prepared()
    assert texts["train"] == ["it cost five dollars and fifty cents and more"]
    assert "--language CODE" in out
    _, out, texts = prepared("--language", "de")
    assert "50" in texts["train"][0]
    assert "--language CODE" not in out


@pytest.mark.parametrize(
    ("name", "content", "split"),
    [
        ("metadata.csv", "a|One.\nb|Two.\n", "train"),
        ("all.csv", "path,sentence\na.wav,One.\nb.wav,Two.\n\n", "all"),
        ("all.CSV", "\ufeffFile;Transcript\r\na.wav;One.\r\nb.wav;Two.\r\n", "all"),
        ("all.tsv", "path\tsentence\tclient_id\na.wav\tOne.\t1\nb.wav\tTwo.\t2\n", "all"),
        ("validated.tsv", "client_id\tpath\tsentence\n1\ta.wav\tOne.\n2\tb.wav\tTwo.\n", "train"),
        ("all.csv", "path,sentence\na.wav,One.\nb.wav\nb.wav,Two.\n", "all"),
        (
            "train_manifest.json",
            '{"audio_filepath": "clips/a.wav", "duration": 0.5, "text": "One."}\n'
            '{"audio_filepath": "clips/b.wav", "duration": 0.5, "text": "Two."}\n',
            "train",
        ),
        (
            "dev.jsonl",
            '\ufeff{"audio_filepath": "clips/a.wav", "duration": 0.5, "text": "One."}\r\n'
            '{"audio_filepath": "clips/b.wav", "duration": 0.5, "text": "Two."}\r\n',
            "dev",
        ),
    ],
)
def test_tables_and_manifests_are_seen(folder, prepared, name, content, split):
    folder("clips/a.wav"), folder("clips/b.wav")
    folder(name, content)
    code, out, texts = prepared()
    assert code == 0, out
    assert texts == {split: ["one", "two"]}


def test_common_voice_is_seen(folder, prepared):
    for name in "abc":
        folder(f"clips/{name}.mp3")
    header = "client_id\tpath\tsentence\tup_votes\n"
    folder("train.tsv", header + '1\ta.mp3\tHe said "no.\t2\n')
    folder("test.tsv", header + "2\tb.mp3\tTwo.\t2\n")
    folder("validated.tsv", header + "1\ta.mp3\tOne.\t2\n2\tb.mp3\tTwo.\t2\n3\tc.mp3\tThree.\t2\n")
    folder("other.tsv", header + "3\tc.mp3\tThree.\t0\n")
    folder("clip_durations.tsv", "clip\tduration[ms]\na.mp3\t500\n")
    _, _, texts = prepared()
    assert texts == {"train": ["he said no"], "test": ["two"]}


@pytest.mark.parametrize("where", ["", "train/"])
def test_kaldi_is_seen(folder, prepared, where):
    audio = folder("wav/a.wav")
    folder(f"{where}wav.scp", f"\ufeffa {audio}\r\nb {audio}\r\n")
    folder(f"{where}text", "a One.\r\nb\tTwo.\r\n")
    _, _, texts = prepared()
    assert list(texts.values()) == [["one", "two"]]


def test_a_manifest_of_settings_is_none(folder, prepared):
    folder("a.wav"), folder("a.txt", "yes")
    folder("settings.json", json.dumps({"learning_rate": 1}))
    assert prepared()[2] == {"train": ["yes"]}


def test_real_recordings(folder, prepared, tmp_path):
    shutil.copy(SAMPLE, folder("x.WAV"))
    folder("x.txt", "The upper house.")
    assert prepared()[0] == 0
    (utterance,) = read_manifest(tmp_path / "out" / "folder" / "train.jsonl")
    assert utterance.duration > 1

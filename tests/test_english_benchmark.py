"""The files that the recipe of the English model needs."""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

import pytest
import torch
from benchmark_scripts import load

from asr.train import checkpoint

english = load("english")


def shared_texts(folder: Path) -> None:
    for manifest in {*english.DEV.values(), *(f"{name}/train" for name in english.CORPORA)}:
        path = folder / "speech" / f"{manifest}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        line = {"audio_filepath": "a.wav", "duration": 1.0, "text": manifest.replace("/", " ")}
        path.write_text(json.dumps(line) + "\n", encoding="utf-8")
    (folder / "text").mkdir()
    for name in ("novels-en", *english.DIALOGUES):
        with lzma.open(folder / "text" / f"{name}.txt.xz", "wt", encoding="utf-8") as file:
            file.writelines(f"{name} {i}\n" for i in range(10))


def test_texts_are_split_into_training_and_held_out_lines(tmp_path: Path) -> None:
    shared_texts(tmp_path)
    english.write_texts(tmp_path, tmp_path / "out")
    assert (tmp_path / "out/novels-dev.txt").read_text().splitlines() == ["novels-en 7"]
    assert "novels-en 7" not in (tmp_path / "out/novels.txt").read_text().splitlines()
    assert len((tmp_path / "out/dialogues.txt").read_text().splitlines()) == 36
    assert len((tmp_path / "out/transcripts.txt").read_text().splitlines()) == 5
    assert (tmp_path / "out/cv-dev.txt").read_text() == "commonvoice-en dev\n"
    assert (tmp_path / "out/orders-dev.txt").read_text() == "coffee-commands dev\n"


def test_speech_and_the_pronunciations_of_its_words(tmp_path: Path) -> None:
    def manifest(path: Path, *rows: dict) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        common = {"audio_filepath": "a.wav", "duration": 1.0}
        path.write_text("".join(json.dumps(common | row) + "\n" for row in rows))

    for name in english.SPEECH:
        manifest(tmp_path / "speech" / name / "train.jsonl", {"text": "a cab"})
    pseudo = [{"text": "sure dacab", "agree": 0.9}, {"text": "unsure", "agree": 0.4}]
    manifest(tmp_path / "speech/commonvoice-en-pseudo/train.jsonl", *pseudo)
    manifest(tmp_path / "more/game.jsonl", {"text": "bad 2"})
    (tmp_path / "text").mkdir()
    entries = "a AH\ncab K AE B\nbad B AE D\ndab D AE B\ntwo T UW\nsure SH UH R\n"
    with lzma.open(tmp_path / "text/cmudict.dict.xz", "wt", encoding="utf-8") as file:
        file.write(entries)
    repeat = {"spelled": 4}
    english.write_speech(tmp_path, tmp_path / "runs", tmp_path / "more", 0.85, repeat)
    rows = [json.loads(row) for row in (tmp_path / "runs/speech.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows].count("a cab") == len(english.SPEECH) - 1 + 3
    assert [row["text"] for row in rows if row["text"] != "a cab"] == ["sure dacab", "bad 2"]
    assert all(Path(row["audio_filepath"]).is_absolute() for row in rows)
    with lzma.open(tmp_path / "runs/lexicon.dict.xz", "rt", encoding="utf-8") as file:
        added = file.read().removeprefix(entries).splitlines()
    assert [line.split()[0] for line in added] == ["dacab"]
    assert added[0].split()[1] == "D"


def test_the_lexicon_grows_by_frequent_words(tmp_path: Path, monkeypatch) -> None:
    dictionary, output = tmp_path / "cmudict.dict.xz", tmp_path / "lexicon.dict.xz"
    dictionary.write_bytes(lzma.compress(b"cab K AE B\nbad B AE D\n"))
    (tmp_path / "text.txt").write_text("Dab, a bad cab.\nDab! abcd\n")
    arguments = ["lexicon", str(tmp_path / "text.txt"), "--min-count", "2"]
    arguments += ["--dictionary", str(dictionary), "--to", str(output)]
    monkeypatch.setattr(sys, "argv", ["english.py", *arguments])
    english.main()
    with lzma.open(output, "rt", encoding="utf-8") as file:
        assert file.read().splitlines() == ["cab K AE B", "bad B AE D", "dab D AE B"]


def test_non_commercial_recordings_are_not_in_the_manifests(tmp_path: Path) -> None:
    for name in ("background", "rooms"):
        folder = tmp_path / "noise" / name
        folder.mkdir(parents=True)
        clips = [
            {"audio": "a.wav", "duration": 2.0, "licence": "CC0 1.0"},
            {"audio": "b.wav", "duration": 2.0, "licence": "CC BY-NC 4.0"},
        ]
        (folder / "manifest.jsonl").write_text("".join(json.dumps(c) + "\n" for c in clips))
    english.write_noises(tmp_path, tmp_path / "runs")
    for name, source in (("noises", "background"), ("rooms", "rooms")):
        (line,) = (tmp_path / "runs" / f"{name}.jsonl").read_text().splitlines()
        row = json.loads(line)
        path = (tmp_path / "noise" / source / "a.wav").resolve()
        assert row == {"audio_filepath": str(path), "duration": 2.0, "text": ""}


def test_a_network_named_twice_counts_twice(tmp_path: Path, monkeypatch) -> None:
    for name, value in (("a", 0.0), ("b", 3.0)):
        weights = {"w": torch.full((2,), value)}
        checkpoint.save(tmp_path / f"{name}.safetensors", weights, {"name": name})
    a, b, mean = (str(tmp_path / f"{name}.safetensors") for name in ("a", "b", "mean"))
    monkeypatch.setattr(sys, "argv", ["english.py", "average", a, a, b, "--output", mean])
    english.main()
    tensors, metadata = checkpoint.load(Path(mean))
    assert tensors["w"].tolist() == [1.0, 1.0]
    assert metadata == {"name": "b"}


def test_without_the_shared_recordings_it_says_what_to_set(monkeypatch, capsys) -> None:
    monkeypatch.delenv("ASR_SHARED", raising=False)
    monkeypatch.setattr(sys, "argv", ["english.py", "texts"])
    with pytest.raises(SystemExit):
        english.main()
    assert "ASR_SHARED is not set" in capsys.readouterr().err

"""`asr-prepare` as it is called."""

import json
import subprocess
import sys

import pytest

from asr.data.manifest import read_manifest, write_manifest
from asr.text.vocabulary import Vocabulary
from asr.types import Utterance


@pytest.fixture
def folder(digits, tmp_path):
    """Recordings of four speakers, with transcripts beside them."""
    for i, digit in enumerate(digits[:20]):
        path = digit.write(tmp_path / "mine" / digit.speaker / f"{i}.flac")
        path.with_suffix(".txt").write_text(digit.text.title() + ".")
    return tmp_path / "mine"


def test_from_a_folder_to_shards(run, folder, tmp_path):
    code, out, _ = run("folder", "--from-folder", folder, "--to", tmp_path, "--language", "en",
                       "--dev", "0.3")  # fmt: skip
    assert code == 0
    assert "Next: asr-prepare check" in out
    train, dev = (tmp_path / "folder" / f"{name}.jsonl" for name in ("train", "dev"))
    assert str(train) in out
    assert not {u.speaker for u in read_manifest(train)} & {u.speaker for u in read_manifest(dev)}

    code, out, _ = run("check", train, dev)
    assert code == 0
    assert "20 utterances, no findings" in out
    assert "remark: text in two splits" in out

    code, out, _ = run("stats", train, dev, "--picture", tmp_path / "stats.png")
    assert code == 0
    assert (tmp_path / "stats.png").stat().st_size > 10_000
    assert "characters/s" in out

    code, out, _ = run("shard", train, dev, "--to", tmp_path / "shards")
    assert code == 0
    index = json.loads((tmp_path / "shards" / "train.index.json").read_text())
    assert index["utterances"] == len(read_manifest(train))


def test_split(run, digits, tmp_path):
    written = [
        Utterance(str(d.write(tmp_path / f"{i}.wav")), 0.5, d.text, d.speaker)
        for i, d in enumerate(digits)
    ]
    write_manifest(tmp_path / "all.jsonl", written)
    code, output, _ = run(
        "split", tmp_path / "all.jsonl", "--to", tmp_path / "out", "--by", "recording"
    )
    assert code == 0, output
    sides = [read_manifest(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "dev")]
    assert [len(side) for side in sides] == [54, 6]
    assert {u.text for u in sides[1]} <= {u.text for u in sides[0]}


def test_findings_are_shown_by_kind_and_in_the_exit_status(run, digits, tmp_path):
    path = digits[0].write(tmp_path / "a.wav")
    bad = [Utterance(str(path), 99.0, f"zéro {i}", "ann", {"i": i}) for i in range(5)]
    write_manifest(tmp_path / "bad.jsonl", bad)
    Vocabulary.characters("abcdefghijklmnopqrstuvwxyz").save(tmp_path / "vocabulary.json")
    arguments = ("check", tmp_path / "bad.jsonl", "--vocabulary", tmp_path / "vocabulary.json")
    code, out, _ = run(*arguments)
    assert code == 1
    assert "wrong duration: 5" in out
    assert "repeated recording: 4" in out
    assert "'0é' in 'zéro 0'" in out
    assert out.count("claims 99.00 s") == 3
    assert "5 utterances, 14 findings" in out
    assert run(*arguments, "--all")[1].count("claims 99.00 s") == 5


def test_the_list_names_licences_and_ways(run):
    code, out, _ = run("list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert len(lines) > 85
    for name, fragments in {
        "librispeech": ("982", "61.4", "CC BY 4.0", "download"),
        "timit": ("LDC", "by hand"),
        "zeroth-korean": ("ko", "CC BY 4.0"),
        "folder": ("any", "yours"),
    }.items():
        assert all(fragment in lines[name] for fragment in fragments), lines[name]
    code, korean, _ = run("list", "--language", "ko")
    assert {line.split()[0] for line in korean.splitlines()[1:]} == {"zeroth-korean", "ksponspeech"}


def test_help_teaches(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "asr-prepare librispeech --parts train-clean-100,dev-clean --to corpora/" in out
    code, out, _ = run("commonvoice", "--help")
    assert code == 0
    assert "CC0 1.0" in out
    assert "To get it, accept the terms" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["librispech"], 2, "did you mean librispeech?"),
        (["chek", "x.jsonl"], 2, "did you mean check?"),
        (["librispeech"], 2, "--to"),
        (["librispeech", "--to", "x", "--parts", "dev-claen"], 1, "did you mean dev-clean?"),
        (["timit", "--to", "x"], 1, "buy it from the LDC"),
        (["folder", "--to", "x"], 1, "--from-folder FOLDER"),
        (["check"], 2, "MANIFESTS"),
    ],
)
def test_wrong_calls_say_what_to_do(run, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    found, _, err = run(*arguments)
    assert found == code
    assert message in " ".join(err.split())


def test_an_empty_manifest_is_named(run, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    code, _, err = run("stats", tmp_path / "empty.jsonl")
    assert code == 1
    assert "empty.jsonl: has no utterances" in err


def test_a_folder_that_cannot_be_made_is_named(run, folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = run("folder", "--from-folder", folder, "--to", tmp_path / "file")
    assert code == 1
    assert f"{tmp_path / 'file' / 'folder'}: Not a directory" in err


def test_manifests_of_the_same_name_are_told_apart(run, digits, tmp_path):
    path = digits[0].write(tmp_path / "a.wav")
    one = Utterance(str(path), len(digits[0].waveform) / 16_000, "zero")
    for name in ("a", "b"):
        write_manifest(tmp_path / name / "train.jsonl", [one])
    _, out, _ = run("stats", tmp_path / "a/train.jsonl", tmp_path / "b/train.jsonl")
    assert "a/train" in out
    assert "b/train" in out


def test_start_up_is_light():
    """Neither torch nor NumPy nor lhotse is imported before it is needed."""
    code = "import data_prep.cli, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    heavy = {"torch", "lhotse", "numpy", "matplotlib", "av", "soundfile"}
    assert not heavy & set(json.loads(done.stdout))

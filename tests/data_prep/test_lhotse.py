"""Corpora that lhotse reads, on small copies of their real layouts: archive to manifests."""

import dataclasses
from itertools import cycle

import numpy as np
import pytest
import soundfile

from asr.data.manifest import read_manifest
from data_prep.catalogue import find
from data_prep.corpus import CorpusError
from data_prep.lhotse_bridge import splits
from data_prep.lhotse_corpora import CORPORA
from data_prep.prepare import prepare

pytestmark = pytest.mark.slow  # importing lhotse imports torch


@pytest.fixture(autouse=True)
def _lhotse():
    pytest.importorskip("lhotse")


def _read(folder):
    return {path.stem: read_manifest(path) for path in sorted(folder.glob("*.jsonl"))}


def _serve(server, pack, corpus, *layouts):
    """The corpus with its archives on a bad connection, in the order of `layouts`."""
    served = []
    for archive, layout in zip(corpus.archives, layouts, strict=False):
        offered = server.offer(archive.name, pack(layout), "cut")
        served.append(dataclasses.replace(offered, part=archive.part, folder=archive.folder))
    return dataclasses.replace(corpus, archives=tuple(served))


def _write_librispeech(root, part, speaker, recordings):
    folder = root / "LibriSpeech" / part / speaker / "100"
    lines = []
    for i, recording in enumerate(recordings):
        name = f"{speaker}-100-{i:04d}"
        recording.write(folder / f"{name}.flac")
        lines.append(f"{name} {recording.text.upper()}\n")
    (folder / f"{speaker}-100.trans.txt").write_text("".join(lines))


def test_librispeech_in_parts(server, pack, digits, tmp_path):
    corpus = find("librispeech")
    by_part = {a.part: a for a in corpus.archives}
    chosen = ["train-clean-100", "dev-clean"]
    served = []
    for part, recordings in zip(chosen, (digits[:4], digits[30:33]), strict=True):
        _write_librispeech(tmp_path / part, part, f"1{len(recordings)}", recordings)
        offered = server.offer(by_part[part].name, pack(tmp_path / part), "cut", 503)
        served.append(dataclasses.replace(offered, part=part))
    others = [a for a in corpus.archives if a.part not in chosen]
    corpus = dataclasses.replace(corpus, archives=(*served, *others))
    list(prepare(corpus, tmp_path / "out", parts=chosen))
    found = _read(tmp_path / "out" / "librispeech")
    assert {name: len(us) for name, us in found.items()} == {"dev-clean": 3, "train-clean-100": 4}
    assert [u.text for u in found["dev-clean"]] == [d.text for d in digits[30:33]]
    assert [u.speaker for u in found["dev-clean"]] == 3 * ["13"]
    assert found["dev-clean"][0].duration == pytest.approx(
        len(digits[30].waveform) / 16_000, abs=1e-3
    )
    # A second run downloads nothing, and what is there already is chosen by itself.
    n_requests = len(server.requests)
    raw = tmp_path / "out" / "librispeech" / "raw"
    again = list(prepare(corpus, tmp_path / "again", folders=[raw]))
    assert sorted(split.name for split in again) == ["dev-clean", "train-clean-100"]
    assert len(server.requests) == n_requests


def test_yesno(server, pack, digits, tmp_path):
    for number, recording in zip(range(60), cycle(digits[:3])):
        bits = "_".join(f"{number:08b}")
        soundfile.write(
            _made(tmp_path / "layout/waves_yesno") / f"{bits}.wav", recording.waveform, 8000
        )
    corpus = _serve(server, pack, find("yesno"), tmp_path / "layout")
    list(prepare(corpus, tmp_path))
    found = _read(tmp_path / "yesno")
    assert {name: len(us) for name, us in found.items()} == {"test": 30, "train": 30}
    assert found["train"][1].text == "no no no no no no yes no"


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_speech_commands(server, pack, digits, tmp_path):
    main, test = tmp_path / "main", tmp_path / "test"
    for i, word in enumerate(["yes", "no", "cat"]):
        for j in range(3):
            digits[3 * i + j].write(main / word / f"speaker{j}_nohash_0.wav")
        digits[i].write(test / word / f"speaker{2}_nohash_0.wav")
    (test / "cat").rename(test / "_unknown_")
    (test / "_unknown_" / "speaker2_nohash_0.wav").rename(test / "_unknown_" / "cat_speaker2_0.wav")
    noise = np.random.default_rng(0).normal(0, 0.01, 16_000)
    soundfile.write(_made(main / "_background_noise_") / "running_tap.wav", noise, 16_000)
    (main / "validation_list.txt").write_text("yes/speaker1_nohash_0.wav\n")
    (main / "testing_list.txt").write_text("yes/speaker2_nohash_0.wav\nno/speaker2_nohash_0.wav\n")
    corpus = _serve(server, pack, find("speech-commands"), main, test)
    made = {split.name: split for split in prepare(corpus, tmp_path)}
    found = _read(tmp_path / "speech-commands")
    assert {name: len(us) for name, us in found.items()} == {"test": 3, "train": 6, "valid": 1}
    assert {u.text for u in found["test"]} == {"yes", "no", "cat"}
    assert found["valid"][0].speaker == "speaker1"
    assert made["valid"].skipped.reasons == {"no text": 1}  # the noise


def test_tedlium_segments_are_cut_out_of_talks(server, pack, digits, tmp_path):
    root = tmp_path / "layout" / "TEDLIUM_release-3" / "legacy"
    for split, recordings in (("train", digits[:3]), ("dev", digits[3:6]), ("test", digits[6:9])):
        talk = np.concatenate([d.waveform for d in recordings])
        _made(root / split / "stm")
        soundfile.write(
            _made(root / split / "sph") / f"Speaker{split}.sph", talk, 16_000, format="NIST"
        )
        ends = np.cumsum([len(d.waveform) / 16_000 for d in recordings])
        rows = [
            f"Speaker{split} 1 Speaker{split} {end - len(d.waveform) / 16_000:.2f} {end:.2f} "
            f"<o,f0,male> {d.text} <unk> it 's [NOISE]"
            for d, end in zip(recordings, ends, strict=True)
        ]
        rows.append(
            f"Speaker{split} 1 inter_segment_gap 0 0.2 <o,f0,> ignore_time_segment_in_scoring"
        )
        (root / split / "stm" / f"Speaker{split}.stm").write_text("\n".join(rows))
    corpus = _serve(server, pack, find("tedlium3"), tmp_path / "layout")
    list(prepare(corpus, tmp_path))
    found = _read(tmp_path / "tedlium3")
    assert {name: len(us) for name, us in found.items()} == {"dev": 3, "test": 3, "train": 3}
    for utterance, recording in zip(found["dev"], digits[3:6], strict=True):
        assert utterance.text == f"{recording.text} it's"
        cut, rate = soundfile.read(utterance.audio_filepath)
        assert rate == 16_000
        assert len(cut) == pytest.approx(len(recording.waveform), abs=400)  # times have 10 ms
        n = min(len(cut), len(recording.waveform)) - 400
        lags = range(-200, 201)
        middle = cut[200:n]
        errors = [np.abs(middle - recording.waveform[200 + lag : n + lag]).max() for lag in lags]
        assert min(errors) < 1e-3
        assert utterance.audio_filepath.endswith(".flac")


def test_common_voice_in_a_language(digits, tmp_path):
    language = tmp_path / "cv-corpus" / "en"
    columns = (
        "client_id path sentence up_votes down_votes age gender accents variant locale segment"
    )
    for split, recordings in (("train", digits[:2]), ("dev", digits[2:3]), ("test", digits[3:4])):
        rows = ["\t".join(columns.split())]
        for i, recording in enumerate(recordings):
            name = f"common_voice_en_{split}{i}.mp3"
            recording.write(language / "clips" / name)
            row = [recording.speaker, name, f'"{recording.text.title()}" costs $5.', "2", "0"]
            rows.append("\t".join([*row, "twenties", "male", "", "", "en", ""]))
        (language / f"{split}.tsv").write_text("\n".join(rows) + "\n")
    corpus = find("commonvoice")
    with pytest.raises(CorpusError, match=r"accept the terms.*--from-folder"):
        list(prepare(corpus, tmp_path))
    list(prepare(corpus, tmp_path, folders=[tmp_path / "cv-corpus"], parts=["en"]))
    found = _read(tmp_path / "commonvoice")
    assert {name: len(us) for name, us in found.items()} == {
        "en-dev": 1, "en-test": 1, "en-train": 2
    }  # fmt: skip
    first = found["en-train"][0]
    assert first.text == f"{digits[0].text} costs five dollars"
    assert (first.speaker, first.extra["age"]) == (digits[0].speaker, "twenties")


def test_ksponspeech(korean, tmp_path):
    root = tmp_path / "KsponSpeech"
    for split, recording in zip(("train", "eval_clean"), korean, strict=False):
        folder = _made(root / "KsponSpeech_01" / "KsponSpeech_0001")
        path = folder / f"KsponSpeech_{split}.pcm"
        samples = (recording.waveform * 32767).astype("<i2")
        path.write_bytes(samples.tobytes())
        listed = path.relative_to(root)
        if split == "eval_clean":  # its list names one folder more
            listed = f"KsponSpeech_eval/{listed}"
        text = f"n/ {recording.text} (2개)/(두 개) 아/ b/"
        (root / f"{split}.trn").write_text(f"{listed} :: {text}\n")
    list(prepare(find("ksponspeech"), tmp_path, folders=[root]))
    found = _read(tmp_path / "ksponspeech")
    assert set(found) == {"train", "eval_clean"}
    assert found["train"][0].text.endswith("두개 아")
    assert found["train"][0].duration == pytest.approx(len(korean[0].waveform) / 16_000, abs=1e-3)


def test_our_timit_agrees_with_lhotses(timit, tmp_path):
    """Where both read TIMIT, they read the same, but for the SA sentences that we leave out."""
    from lhotse.recipes.timit import prepare_timit

    places = ["TRAIN/DR1/FCJF0/SX37", "TRAIN/DR1/FCJF0/SA1", "TEST/DR1/FAKS0/SX43",
              "TEST/DR2/FPAS0/SX44"]  # fmt: skip
    for place, recording in zip(places, timit, strict=False):
        stem = tmp_path / "TIMIT" / "data" / place
        _made(stem.parent)
        soundfile.write(stem.with_suffix(".WAV"), recording.waveform, 16_000, format="NIST")
        text = f"0 {len(recording.waveform)} {recording.text}\n"
        stem.with_suffix(".TXT").write_text(text)
        for ending, key in ((".PHN", "phones"), (".WRD", "words")):
            labels = "".join(f"{a} {b} {c}\n" for a, b, c in recording.extra[key])
            stem.with_suffix(ending).write_text(labels)
    ours = find("timit").prepare([tmp_path / "TIMIT"])
    theirs = splits(prepare_timit(tmp_path / "TIMIT", num_phones=60))
    assert set(ours) == set(theirs) == {"train", "dev", "test"}
    for name in ours:
        expected = {c.id.lower(): c for c in theirs[name] if "-SA" not in c.id}
        found = {c.id: c for c in ours[name]}
        assert found.keys() == expected.keys()
        for key, clip in found.items():
            assert (clip.text, clip.audio) == (expected[key].text, expected[key].audio)
            assert clip.extra["phones"] == expected[key].extra["phones"]


def test_a_wrong_layout_is_told_in_one_line(tmp_path):
    with pytest.raises(
        CorpusError, match="lhotse's recipe yesno stopped: AssertionError"
    ) as caught:
        list(prepare(find("yesno"), tmp_path, folders=[tmp_path]))
    assert "\n" not in str(caught.value)


def test_lhotses_own_downloads_fail_in_one_line(tmp_path, monkeypatch):
    from lhotse.recipes import aishell

    def no_network(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setattr(aishell, "resumable_download", no_network)
    with pytest.raises(Exception, match=r"lhotse could not download aishell.*same command again"):
        list(prepare(find("aishell"), tmp_path))


@pytest.mark.parametrize("corpus", CORPORA, ids=lambda corpus: corpus.name)
def test_every_entry_fits_its_recipe(corpus):
    """The functions exist, and their arguments are those that we pass."""
    import inspect

    from data_prep.lhotse_bridge import _function

    recipe, parts_argument, options = corpus.read.args
    accepted = inspect.signature(_function(recipe, "prepare")).parameters
    folders = [name for name in accepted if name not in options][: len(corpus.folders)]
    passed = {*folders, *options, "output_dir"}
    needed = {name for name, p in accepted.items() if p.default is inspect.Parameter.empty}
    assert needed <= passed
    assert set(options) <= set(accepted)
    taking_parts = set(accepted)
    if corpus.fetch:
        downloads = inspect.signature(_function(recipe, "download")).parameters
        assert "target_dir" in downloads
        taking_parts |= set(downloads)
    assert (corpus.parts == ()) or parts_argument in taking_parts

"""Our own recipes, from the archive on a server to manifests, on small copies of real layouts."""

import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from asr.data.manifest import read_manifest
from data_prep.catalogue import find
from data_prep.corpus import CorpusError
from data_prep.prepare import prepare


def _read(folder):
    """The manifests of a prepared corpus, by split."""
    return {path.stem: read_manifest(path) for path in sorted(folder.glob("*.jsonl"))}


@pytest.fixture
def get(server, tmp_path, pack):
    """Serve a layout as the corpus' archive, on a bad connection, and prepare it from there."""

    def run(name, layout, **options):
        corpus = find(name)
        content = pack(layout)
        published = corpus.archives[0]
        served = server.offer(published.name, content, "cut", 503, part=published.part)
        corpus = dataclasses.replace(corpus, archives=(served,))
        list(prepare(corpus, tmp_path / "corpora", **options))
        folder = tmp_path / "corpora" / name
        # Prepared folders may be moved: their paths are relative.
        moved = folder.rename(tmp_path / "moved")
        return _read(moved)

    return run


def test_an4(get, digits, tmp_path):
    root = tmp_path / "layout" / "an4"
    (root / "etc").mkdir(parents=True)
    for split, folder, spoken in (
        ("train", "an4_clstk", digits[0:60:10]),
        ("test", "an4test_clstk", digits[6:9]),
    ):
        ids = []
        with (root / "etc" / f"an4_{split}.transcription").open("w") as file:
            for i, recording in enumerate(spoken):
                ids.append(f"{folder}/fash/an{i}-fash-b")
                recording.write(root / "wav" / f"{ids[-1]}.sph")
                text = recording.text.upper()
                if split == "train":  # only there with sentence marks
                    text = f"<s> {text} </s>"
                file.write(f"{text} (an{i}-fash-b)\n")
        (root / "etc" / f"an4_{split}.fileids").write_text("\n".join(ids) + "\n")
    splits = get("an4", tmp_path / "layout", dev=0.3)
    assert {name: len(found) for name, found in splits.items()} == {"dev": 2, "test": 3, "train": 4}
    assert [u.text for u in splits["test"]] == [d.text for d in digits[6:9]]
    assert splits["test"][0].speaker == "fash"
    assert splits["test"][0].duration == pytest.approx(len(digits[6].waveform) / 16_000, abs=1e-3)


def test_free_spoken_digits(get, digits, tmp_path):
    root = tmp_path / "layout" / "free-spoken-digit-dataset-1.0.9" / "recordings"
    names = ["0_george_0", "0_george_4", "7_george_5", "9_jackson_49"]
    for name, recording in zip(names, digits, strict=False):
        recording.write(root / f"{name}.wav")
    (root.parent / "README.md").write_text("digits")
    splits = get("fsdd", tmp_path / "layout")
    assert {s: [(u.extra["id"], u.text, u.speaker) for u in us] for s, us in splits.items()} == {
        "test": [("0_george_0", "zero", "george"), ("0_george_4", "zero", "george")],
        "train": [("7_george_5", "seven", "george"), ("9_jackson_49", "nine", "jackson")],
    }


def test_zeroth_korean(get, korean, tmp_path):
    for split, speaker, recording in zip(
        ("train", "train", "test"), ("106", "107", "104"), korean, strict=False
    ):
        folder = tmp_path / "layout" / f"{split}_data_01" / "003" / speaker
        recording.write(folder / f"{speaker}_003_0000.flac")
        script = recording.extra["script"]
        (folder / f"{speaker}_003.trans.txt").write_text(f"{speaker}_003_0000 {script}\n")
    splits = get("zeroth-korean", tmp_path / "layout")
    assert [u.speaker for u in splits["train"]] == ["106", "107"]
    assert [u.speaker for u in splits["test"]] == ["104"]
    assert not any(c.isdigit() for us in splits.values() for u in us for c in u.text)


def test_speechocean762(get, digits, tmp_path):
    root = tmp_path / "layout" / "speechocean762"
    for split, spoken in (("train", digits[:2]), ("test", digits[2:3])):
        lines = {"wav.scp": "", "text": "", "utt2spk": ""}
        for i, recording in enumerate(spoken):
            name = f"00001{split[0]}{i}"
            recording.write(root / "WAVE" / "SPEAKER0001" / f"{name}.WAV")
            lines["wav.scp"] += f"{name}\tWAVE/SPEAKER0001/{name}.WAV\n"
            lines["text"] += f"{name}\t{recording.text.upper()}\n"
            lines["utt2spk"] += f"{name}\t0001\n"
        (root / split).mkdir()
        for file_name, content in lines.items():
            (root / split / file_name).write_text(content)
    splits = get("speechocean762", tmp_path / "layout")
    assert [u.text for u in splits["train"]] == [d.text for d in digits[:2]]
    assert [(u.text, u.speaker) for u in splits["test"]] == [(digits[2].text, "0001")]


def test_ljspeech(get, digits, tmp_path):
    root = tmp_path / "layout" / "LJSpeech-1.1"
    rows = []
    for i, recording in enumerate(digits[:3]):
        recording.write(root / "wavs" / f"LJ001-000{i}.wav")
        rows.append(f'LJ001-000{i}|A "quote, {i}|A "quote, {recording.text}')
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    splits = get("ljspeech", tmp_path / "layout")
    assert [u.text for u in splits["train"]] == [f"a quote {d.text}" for d in digits[:3]]
    assert splits["train"][0].extra["original"] == f'A "quote, {digits[0].text}'


def _write_timit(root, recordings, place):
    """Recordings with label files where `place` (speaker number -> folder) puts them."""
    for i, recording in enumerate(recordings):
        stem = place(i)
        (root / stem).parent.mkdir(parents=True, exist_ok=True)
        upper = stem.rpartition("/")[2].isupper()
        endings = [s.upper() if upper else s for s in (".wav", ".txt", ".phn", ".wrd")]
        wav, txt, phn, wrd = ((root / stem).with_suffix(ending) for ending in endings)
        soundfile.write(wav, recording.waveform, 16_000, format="NIST")
        txt.write_text(f"0 {len(recording.waveform)} {recording.text}\n")
        for path, key in ((phn, "phones"), (wrd, "words")):
            path.write_text("".join(f"{a} {b} {c}\n" for a, b, c in recording.extra[key]))


def test_timit_as_the_ldc_distributes_it(timit, tmp_path, server):
    places = [
        "TRAIN/DR1/FCJF0/SX37", "TRAIN/DR1/FCJF0/SA1", "TRAIN/DR2/MARC0/SI1188",
        "TEST/DR1/FAKS0/SX43", "TEST/DR2/FPAS0/SX44", "TEST/DR2/FPAS0/SA2", "TEST/DR1/MSTK0/SX64",
    ]  # fmt: skip
    _write_timit(tmp_path / "TIMIT", timit[: len(places)], lambda i: places[i])
    made = list(prepare(find("timit"), tmp_path, folders=[tmp_path / "TIMIT"]))
    assert {split.name: split.n_utterances for split in made} == {
        "dev": 1, "dev-phones": 1, "test": 1, "test-phones": 1, "train": 2, "train-phones": 2,
    }  # fmt: skip
    splits = _read(tmp_path / "timit")
    assert [u.extra["id"] for u in splits["train"]] == ["fcjf0-sx37", "marc0-si1188"]
    assert [u.speaker for u in (*splits["dev"], *splits["test"])] == ["faks0", "fpas0"]
    labels = [label for _, _, label in timit[0].extra["phones"]]
    assert splits["train"][0].extra["phones"] == labels
    assert splits["train-phones"][0].text == " ".join(labels)
    assert splits["train-phones"][0].extra["words"] == splits["train"][0].text


def test_timit_as_nltk_samples_it(timit, tmp_path):
    places = ["dr1-fvmh0/sx116", "dr1-fvmh0/sa2", "dr2-marc0/si1188"]
    _write_timit(tmp_path / "timit", timit[:3], lambda i: places[i])
    list(prepare(find("timit"), tmp_path / "out", folders=[tmp_path / "timit"]))
    splits = _read(tmp_path / "out" / "timit")
    assert [(u.speaker, u.extra["id"]) for u in splits["train"]] == [
        ("fvmh0", "fvmh0-sx116"), ("marc0", "marc0-si1188")
    ]  # fmt: skip


def test_timit_tells_how_to_get_it(tmp_path):
    with pytest.raises(CorpusError, match=r"LDC93S1.*--from-archive.*--from-folder"):
        list(prepare(find("timit"), tmp_path))


def test_the_shared_timit_sample_keeps_its_phones(shared, tmp_path):
    """Labels with times, [start, end, label], make a manifest of phones too."""
    manifest = shared / "speech" / "timit-sample" / "train.jsonl"
    list(prepare(find("nemo"), tmp_path, folders=[manifest], language="en"))
    splits = _read(tmp_path / "nemo")
    assert len(splits["train"]) == len(splits["train-phones"]) == 93
    assert splits["train-phones"][0].text.startswith("h# d ow nx ae s")


def test_any_folder(digits, tmp_path):
    digits[0].write(tmp_path / "mine" / "train" / "anna" / "one.wav")
    digits[1].write(tmp_path / "mine" / "train" / "ben" / "one.flac")
    digits[2].write(tmp_path / "mine" / "test" / "talk.ogg")
    digits[3].write(tmp_path / "mine" / "test" / "untold.wav")
    (tmp_path / "mine" / "train" / "anna" / "one.txt").write_text("\ufeffNo. 1\n", encoding="utf-8")
    (tmp_path / "mine" / "train" / "ben" / "one.lab").write_text("Dr. Who?")
    (tmp_path / "mine" / "test" / "talk.txt").write_text("Hello")
    list(prepare(find("folder"), tmp_path, folders=[tmp_path / "mine"], language="en"))
    splits = _read(tmp_path / "folder")
    assert [(u.speaker, u.text, u.extra["id"]) for u in splits["train"]] == [
        ("anna", "number one", "anna-one"), ("ben", "doctor who", "ben-one")
    ]  # fmt: skip
    assert [(u.speaker, u.text) for u in splits["test"]] == [(None, "hello")]


@pytest.mark.parametrize(
    ("name", "table", "audio"),
    [
        ("train.tsv", "client_id\tpath\tsentence\nbea\tx.mp3\tSay \"hi\n", "clips/x.mp3"),
        ("train.csv", 'wav_filename,transcript,speaker\nsub/x.wav,"Say, ""hi",bea\n', "sub/x.wav"),
        ("train.csv", "speaker|text|path\nbea|Say \"hi|x\n", "wavs/x.flac"),
    ],
)  # fmt: skip
def test_tables_of_other_columns(digits, tmp_path, name, table, audio):
    digits[0].write(tmp_path / "mine" / audio)
    (tmp_path / "mine" / name).write_text(table)
    list(prepare(find("csv"), tmp_path, folders=[tmp_path / "mine"]))
    (utterance,) = _read(tmp_path / "csv")["train"]
    assert (utterance.speaker, utterance.text) == ("bea", "say hi")
    assert utterance.audio_filepath.endswith(audio)


@pytest.mark.parametrize("table", ["text,speaker\nhi,bea\n", "path,text\nx.wav\n"])
def test_tables_that_lack_a_column(tmp_path, table):
    (tmp_path / "train.csv").write_text(table)
    with pytest.raises(CorpusError, match=r"train\.csv.*column"):
        list(prepare(find("csv"), tmp_path, folders=[tmp_path]))


def test_kaldi_segments_and_channels_are_cut_out(digits, tmp_path):
    left, right = np.concatenate([d.waveform for d in digits[:4]]), np.zeros(0, np.float32)
    right = np.roll(left, 4000)
    data = tmp_path / "data" / "train"
    data.mkdir(parents=True)
    soundfile.write(tmp_path / "call.wav", np.stack([left, right], axis=1), 16_000)
    soundfile.write(tmp_path / "talk.flac", left, 16_000)
    (data / "wav.scp").write_text(
        f"call-A {tmp_path}/call.wav\ncall-B sph2pipe -f wav -p -c 2 {tmp_path}/call.wav |\n"
        "talk talk.flac\n"
    )
    (data / "reco2file_and_channel").write_text("call-A call A\ncall-B call B\n")
    ends = np.cumsum([len(d.waveform) for d in digits[:4]]) / 16_000
    spans = list(pairwise([0.0, *ends]))
    segments = [f"talk-{i} talk {a:.5f} {b:.5f}" for i, (a, b) in enumerate(spans)]
    segments += ["left call-A 0 1.0", "right call-B 0.25 -1"]
    (data / "segments").write_text("\n".join(segments))
    texts = [f"talk-{i} {d.text}" for i, d in enumerate(digits[:4])]
    (data / "text").write_text("\n".join([*texts, "left one", "right two"]))
    list(prepare(find("kaldi"), tmp_path, folders=[tmp_path / "data"]))
    found = {u.extra["id"]: u for u in _read(tmp_path / "kaldi")["train"]}
    for i, recording in enumerate(digits[:4]):
        cut, rate = soundfile.read(found[f"talk-{i}"].audio_filepath)
        assert rate == 16_000
        n_samples = len(recording.waveform) - 1  # times are rounded
        assert np.abs(cut[:n_samples] - recording.waveform[:n_samples]).max() < 1e-4
    cut, _ = soundfile.read(found["left"].audio_filepath)
    assert np.abs(cut - left[:16_000]).max() < 1e-4
    cut, _ = soundfile.read(found["right"].audio_filepath)
    assert np.abs(cut - right[4000:]).max() < 1e-4


def test_kaldi_commands_are_never_run(tmp_path, digits):
    data = tmp_path / "data"
    data.mkdir()
    digits[0].write(data / "x.wav")
    (data / "wav.scp").write_text(f"a touch {tmp_path}/ran; cat {data}/x.wav |\n")
    (data / "text").write_text("a one\n")
    list(prepare(find("kaldi"), tmp_path, folders=[data]))
    assert len(_read(tmp_path / "kaldi")["data"]) == 1
    (data / "wav.scp").write_text(f"a touch {tmp_path}/ran |\n")
    with pytest.raises(CorpusError, match="no file behind the command"):
        list(prepare(find("kaldi"), tmp_path, folders=[data]))
    assert not (tmp_path / "ran").exists()


def test_nemo_offsets_are_cut_out(digits, tmp_path):
    whole = np.concatenate([d.waveform for d in digits[:2]])
    soundfile.write(tmp_path / "talk.wav", whole, 16_000)
    first = len(digits[0].waveform) / 16_000
    total = len(whole) / 16_000
    lines = [
        {"audio_filepath": "talk.wav", "offset": 0.0, "duration": first, "text": "One"},
        {"audio_filepath": "talk.wav", "offset": first, "duration": 0.1, "text": "Two", "x": 3},
        {"audio_filepath": "talk.wav", "duration": total, "text": "Both"},
    ]
    (tmp_path / "dev_manifest.json").write_text("\n".join(map(json.dumps, lines)))
    list(prepare(find("nemo"), tmp_path / "out", folders=[tmp_path]))
    one, two, both = _read(tmp_path / "out" / "nemo")["dev"]
    cut, _ = soundfile.read(one.audio_filepath)
    assert np.abs(cut - digits[0].waveform).max() < 1e-4
    assert (two.duration, two.extra["x"]) == (0.1, 3)
    assert both.audio_filepath == str(tmp_path / "talk.wav")


@pytest.mark.parametrize("name", ["folder", "csv", "kaldi", "nemo", "timit", "an4", "fsdd"])
def test_another_folder_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="empty"):
        list(prepare(find(name), tmp_path / "out", folders=[tmp_path / "empty"]))


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("fsdd", {"recordings/7_jackson_x.wav": b""}),
        ("kaldi", {"wav.scp": b"a a.wav", "text": b"u hi", "segments": b"u a 0"}),
        ("timit", {"DR1/A/X.PHN": b"0 1 h#", "DR1/A/X.TXT": b"0 1", "DR1/A/X.WAV": b""}),
    ],
)
def test_what_is_not_as_it_should_be_is_told_in_one_line(tmp_path, name, files):
    for file_name, content in files.items():
        path = tmp_path / "odd" / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=f"odd: not as {name} should be") as caught:
        list(prepare(find(name), tmp_path / "out", folders=[tmp_path / "odd"]))
    assert "\n" not in str(caught.value)

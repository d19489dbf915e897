"""From clips to manifests: parts, held-out speakers, what is left out, what is done already."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.data.manifest import hold_out, read_manifest
from asr.errors import ManifestError
from asr.types import Utterance
from data_prep.catalogue import CATALOGUE, find
from data_prep.clips import Skipped, utterances
from data_prep.corpus import Clip, Corpus, CorpusError
from data_prep.prepare import prepare


def _corpus(*clips, **facts):
    """A corpus whose only split, train, is these clips."""
    about = {"name": "mine", "title": "mine", "licence": "CC0", "languages": "en"} | facts
    return Corpus(read=lambda folders, parts: {"train": list(clips)}, **about)


def test_what_cannot_be_used_is_counted_and_named(digits, tmp_path):
    good = digits[0].write(tmp_path / "good.wav")
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    soundfile.write(tmp_path / "blink.wav", np.zeros(100), 16_000)
    clips = [
        Clip(good, "One!", "ann"),
        Clip(good, " ... ", id="mute"),
        Clip(tmp_path / "missing.wav", "two"),
        Clip(tmp_path / "broken.wav", "three"),
        Clip(tmp_path / "blink.wav", "four"),
        Clip(good, "far", start=1e6, duration=1.0),
    ]
    (split,) = prepare(_corpus(*clips), tmp_path / "out", folders=[tmp_path])
    assert split.n_utterances == 1
    assert split.skipped.reasons == {"cannot be read": 3, "no text": 1, "shorter than 0.05 s": 1}
    assert split.skipped.names["no text"] == ["mute"]
    assert "missing.wav" in split.skipped.names["cannot be read"][0]
    (utterance,) = read_manifest(split.manifest)
    assert (utterance.text, utterance.speaker, utterance.extra) == (
        "one", "ann", {"id": "good", "original": "One!"}
    )  # fmt: skip


def test_a_corpus_without_a_single_usable_utterance(tmp_path):
    corpus = _corpus(Clip(tmp_path / "missing.wav", "two"))
    with pytest.raises(CorpusError, match=r"no utterance could be used.*missing\.wav"):
        list(prepare(corpus, tmp_path / "out", folders=[tmp_path]))


def test_the_licence_stays_with_the_manifests(digits, tmp_path):
    corpus = _corpus(Clip(digits[0].write(tmp_path / "a.wav"), "one"), page="https://example.org")
    list(prepare(corpus, tmp_path, folders=[tmp_path]))
    about = json.loads((tmp_path / "mine" / "corpus.json").read_text())
    assert (about["licence"], about["page"], about["parts"]) == ("CC0", "https://example.org", [])


def test_clips_of_the_same_name_do_not_overwrite_each_other(digits, tmp_path):
    path = digits[0].write(tmp_path / "a.wav")
    clips = [Clip(path, "x", id="s/1", start=s, duration=0.1) for s in (0.0, 0.1)]
    found = list(utterances(clips, tmp_path / "clips", str.lower, Skipped()))
    assert [u.extra["id"] for u in found] == ["s_1", "s_1-2"]
    first, second = (soundfile.read(u.audio_filepath)[0] for u in found)
    assert np.abs(np.concatenate([first, second]) - digits[0].waveform[:3200]).max() < 1e-4


def test_clips_that_are_cut_already_are_kept(digits, tmp_path):
    path = digits[0].write(tmp_path / "a.wav")
    clips = [Clip(path, "x", start=0.0, duration=0.1)]
    (utterance,) = utterances(clips, tmp_path / "clips", str.lower, Skipped())
    path.unlink()
    (again,) = utterances(clips, tmp_path / "clips", str.lower, Skipped())
    assert again == utterance


def test_languages_choose_the_normaliser(digits, korean, tmp_path):
    path = digits[0].write(tmp_path / "a.wav")
    for languages, split, said in (
        ("en", "train", "two"),
        ("ko", "train", "이"),
        ("en ko", "ko-train", "이"),
        ("multi", "en_us-train", "two"),
        ("de", "train", "2"),
    ):
        corpus = dataclasses.replace(
            _corpus(languages=languages),
            read=lambda folders, parts, split=split: {split: [Clip(path, "2")]},
        )
        (made,) = prepare(corpus, tmp_path / languages, folders=[tmp_path])
        assert read_manifest(made.manifest)[0].text == said


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0.5, 20)), min_size=2, max_size=40),
    st.floats(0.01, 0.5),
)
def test_held_out_speakers_are_nobody_elses(speakers, share):
    found = [Utterance(f"{i}.wav", d, f"t{i}", s) for i, (s, d) in enumerate(speakers)]
    rest, held_out = hold_out(found, share)
    assert sorted(u.audio_filepath for u in (*rest, *held_out)) == sorted(
        u.audio_filepath for u in found
    )
    assert rest
    assert held_out
    if len({u.speaker for u in found}) > 1:
        assert not {u.speaker for u in rest} & {u.speaker for u in held_out}
    assert hold_out(found, share) == (rest, held_out)


def test_sentences_are_held_out_if_nobody_knows_the_speakers():
    found = [Utterance(f"{i}.wav", 1.0, f"text {i // 2}", None) for i in range(200)]
    rest, held_out = hold_out(found, 0.1)
    assert len(held_out) == 20
    assert not {u.text for u in rest} & {u.text for u in held_out}
    with pytest.raises(ManifestError, match="no other text would be left"):
        hold_out(found[:2], 0.1)


def test_nothing_is_held_out_where_there_is_a_development_set(digits, tmp_path):
    clip = Clip(digits[0].write(tmp_path / "a.wav"), "one")
    corpus = dataclasses.replace(
        _corpus(), read=lambda folders, parts: {"train": [clip], "dev": [clip]}
    )
    with pytest.raises(CorpusError, match="nothing to hold out"):
        list(prepare(corpus, tmp_path, folders=[tmp_path], dev=0.1))


def test_parts_are_known_by_name():
    with pytest.raises(CorpusError, match=r"did you mean dev-clean.*its parts are dev-clean"):
        find("librispeech").check_parts(["dev-claen"])
    with pytest.raises(CorpusError, match="one piece"):
        find("an4").check_parts(["train"])
    find("fleurs").check_parts(["ko_kr"])  # the recipe knows its languages


def test_local_archives_are_told_apart_by_name(tmp_path):
    corpus = find("librispeech")
    stranger = tmp_path / "mine.tar.gz"
    stranger.write_bytes(b"")
    with pytest.raises(CorpusError, match=r"dev-clean\.tar\.gz is not among.*--parts"):
        corpus.download(tmp_path / "raw", ["dev-clean", "dev-other"], [stranger])


def test_the_number_of_folders_is_checked(tmp_path):
    with pytest.raises(CorpusError, match=r"2 folders, not 1.*the recordings, the transcripts"):
        find("switchboard").prepare([tmp_path])
    with pytest.raises(CorpusError, match="no such folder"):
        find("switchboard").prepare([tmp_path, tmp_path / "nothing"])


def test_an_archive_that_people_bring_is_unpacked(timit, tmp_path, pack):
    folder = tmp_path / "layout" / "TIMIT" / "TRAIN" / "DR1" / "FCJF0"
    folder.mkdir(parents=True)
    soundfile.write(folder / "SX37.WAV", timit[0].waveform, 16_000, format="NIST")
    (folder / "SX37.TXT").write_text("0 9 A b.")
    (folder / "SX37.PHN").write_text("0 9 h#\n")
    (tmp_path / "timit_LDC93S1.tgz").write_bytes(pack(tmp_path / "layout"))
    archive = tmp_path / "timit_LDC93S1.tgz"
    made = list(prepare(find("timit"), tmp_path / "out", archives=[archive]))
    assert [split.name for split in made] == ["train", "train-phones"]


@pytest.mark.parametrize("corpus", CATALOGUE.values(), ids=lambda corpus: corpus.name)
def test_every_corpus_says_what_it_is_and_how_to_get_it(corpus):
    assert corpus.title
    assert corpus.licence
    assert corpus.can_download != bool(corpus.instructions)
    assert corpus.page or corpus.instructions
    for archive in corpus.archives:
        assert archive.url.startswith(("https://", "http://"))
        assert archive.checksum.partition(":")[0] in ("", "md5", "sha256")
        assert len(archive.checksum.partition(":")[2]) in (0, 32, 64)
        assert not corpus.parts or archive.part in corpus.parts

"""Everything that can be wrong with a manifest, in manifests of real recordings."""

import dataclasses
import shutil

import pytest
import soundfile

from asr.data.manifest import read_manifest
from asr.text.vocabulary import Vocabulary
from asr.types import Utterance
from data_prep.check import by_kind, check


@pytest.fixture
def good(digits, tmp_path):
    """Eight utterances with nothing wrong."""
    return [
        Utterance(
            str(d.write(tmp_path / f"{i}.flac")), len(d.waveform) / 16_000, d.text, f"speaker{i}"
        )
        for i, d in enumerate(digits[0:40:5])
    ]


def _kinds(*splits, **options):
    named = {f"split{i}": split for i, split in enumerate(splits)}
    return {kind: len(found) for kind, found in by_kind(check(named, **options)).items()}


def test_nothing_is_wrong_with_good_manifests(good):
    vocabulary = Vocabulary.characters("abcdefghijklmnopqrstuvwxyz'")
    remarks = {"text in two splits"}
    assert set(_kinds(good[:4], good[4:], vocabulary=vocabulary, decode=True)) <= remarks


def test_nothing_is_wrong_with_the_shared_recordings(shared):
    for source in ("coffee-commands/dev", "timit-sample/train"):
        utterances = read_manifest(shared / "speech" / f"{source}.jsonl")
        assert _kinds(utterances) == {}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("missing file", {"audio_filepath": "/nowhere/x.wav"}),
        ("wrong duration", {"duration": 9.0}),
        ("empty text", {"text": " "}),
        ("impossible text", {"text": "one two three " * 10}),
        ("not in the vocabulary", {"text": "naïve"}),
    ],
)
def test_each_fault_is_found(good, kind, change):
    bad = [dataclasses.replace(good[0], **change), *good[1:]]
    assert _kinds(bad, vocabulary=Vocabulary.characters("abcdefghijklmnopqrstuvwxyz")) == {kind: 1}


def test_repeated_symbols_need_a_frame_more(good):
    long_enough = dataclasses.replace(good[0], text="ab" * 5)
    too_long = dataclasses.replace(good[0], text="aa" * 5)
    shift = good[0].duration / 11
    assert _kinds([long_enough], frame_shift=shift) == {}
    assert _kinds([too_long], frame_shift=shift) == {"impossible text": 1}


def test_phones_count_as_one_symbol_each(good):
    shift = good[0].duration / 6
    phones = dataclasses.replace(good[0], text="h# ax-h tcl t h#", extra={"words": "a t"})
    assert _kinds([phones], frame_shift=shift) == {}
    assert _kinds([dataclasses.replace(phones, extra={})], frame_shift=shift) == {
        "impossible text": 1
    }


def test_damage_behind_the_header_is_found_by_decoding(good, digits, tmp_path):
    path = tmp_path / "long.flac"
    whole = digits[0].write(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    bad = [Utterance(str(path), len(digits[0].waveform) / 16_000, "one", "ann")]
    assert _kinds(bad) == {}
    assert _kinds(bad, decode=True) == {"unreadable file": 1}
    path.write_bytes(b"")
    assert _kinds(bad) == {"unreadable file": 1}


def test_recordings_that_occur_twice(good, tmp_path):
    copy = shutil.copy(good[0].audio_filepath, tmp_path / "copy.flac")
    twin = dataclasses.replace(good[0], audio_filepath=str(copy), text="x", speaker=None)
    assert _kinds([*good, twin]) == {"repeated recording": 1}
    assert _kinds(good, [twin]) == {"repeated recording": 1}
    assert _kinds([*good, good[0]]) == {"repeated recording": 1}


def test_parts_of_one_recording_are_no_repetition_and_lie_inside_it(good):
    half = good[0].duration / 2
    parts = [dataclasses.replace(good[0], duration=half, offset=start) for start in (0.0, half)]
    assert _kinds(parts) == {}
    assert _kinds([dataclasses.replace(good[0], offset=1.0)]) == {"wrong duration": 1}


def test_equal_sizes_are_not_taken_for_equal_recordings(tmp_path, digits):
    for i in (0, 1):
        soundfile.write(tmp_path / f"{i}.wav", digits[i].waveform[:3000], 16_000)
    sizes = {(tmp_path / f"{i}.wav").stat().st_size for i in (0, 1)}
    assert len(sizes) == 1
    both = [Utterance(str(tmp_path / f"{i}.wav"), 3000 / 16_000, "a", None) for i in (0, 1)]
    assert _kinds(both) == {}


def test_what_two_splits_share(good):
    first, second = good[:4], [dataclasses.replace(u, speaker="speaker0") for u in good[4:]]
    second[0] = dataclasses.replace(second[0], text=first[0].text)
    groups = by_kind(check({"train": first, "test": second}))
    (speakers,) = groups["speaker in two splits"]
    assert (speakers.where, speakers.detail) == (
        "train and test",
        "1 in common, such as 'speaker0'",
    )
    (texts,) = groups["text in two splits"]
    assert speakers.is_error
    assert not texts.is_error
    assert list(groups) == ["speaker in two splits", "text in two splits"]


def test_addresses_are_not_looked_at():
    far = [Utterance("s3://bucket/a.flac", 1.0, "a", None)]
    assert _kinds(far) == {}

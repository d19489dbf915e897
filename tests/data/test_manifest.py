import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.data.manifest import read_manifest, write_manifest
from asr.errors import ManifestError
from asr.types import Utterance

texts = st.text(st.characters(codec="utf-8"))
utterances = st.builds(
    Utterance,
    audio_filepath=st.just("/clips/a.wav"),
    duration=st.floats(0, 1e5),
    text=texts,
    speaker=st.none() | texts,
    extra=st.dictionaries(st.sampled_from(["id", "licence", "lang"]), texts | st.integers()),
)


@given(st.lists(utterances, max_size=5))
def test_round_trip_keeps_every_key(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("manifest") / "train.jsonl"
    write_manifest(path, written)
    assert read_manifest(path) == written


def line(**changes) -> str:
    return json.dumps({"audio_filepath": "a.wav", "duration": 1.0, "text": "a", **changes})


def test_paths_are_found_beside_and_above_the_manifest(tmp_path):
    (tmp_path / "corpus" / "train").mkdir(parents=True)
    (tmp_path / "corpus" / "train" / "a.wav").touch()
    (tmp_path / "corpus" / "beside.jsonl").write_text(line(audio_filepath="train/a.wav"))
    (tmp_path / "corpus" / "above.jsonl").write_text(line(audio_filepath="corpus/train/a.wav"))
    for name in ("beside.jsonl", "above.jsonl"):
        (utterance,) = read_manifest(tmp_path / "corpus" / name)
        assert utterance.audio_filepath == str(tmp_path / "corpus" / "train" / "a.wav")


def test_urls_stay(tmp_path):
    (tmp_path / "m.jsonl").write_text(line(audio_filepath="s3://bucket/a.wav"))
    assert read_manifest(tmp_path / "m.jsonl")[0].audio_filepath == "s3://bucket/a.wav"


@pytest.mark.parametrize(
    "bad",
    [
        "{",
        "[]",
        '{"duration": 1, "text": ""}',
        line(duration="1"),
        line(duration=-1),
        line(duration=math.nan),
        line(duration=True),
        line(text=None),
        line(audio_filepath=""),
        line(speaker=3),
    ],
)
def test_bad_lines_are_named(bad, tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(f"{line()}\n\n{bad}\n")
    with pytest.raises(ManifestError, match=r"m\.jsonl:3: "):
        read_manifest(path)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(tmp_path / "b.jsonl")

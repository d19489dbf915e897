import json
import math
import os

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.data.manifest import hold_out, read_audio, read_manifest, write_manifest
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
    offset=st.none() | st.floats(0, 1e5),
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
        line(offset="1"),
        line(offset=-1),
        line(offset=math.inf),
        line(offset=False),
    ],
)
def test_bad_lines_are_named(bad, tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(f"{line()}\n\n{bad}\n")
    with pytest.raises(ManifestError, match=r"m\.jsonl:3: "):
        read_manifest(path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"audio_filepath": "a.wav", "text": "a"}', "there is no duration"),
        ('{"audio": "a.wav", "duration": 1}', "there is no audio_filepath and no text"),
    ],
)
def test_what_a_line_lacks_is_named_in_plain_words(line: str, told: str, tmp_path) -> None:
    (tmp_path / "m.jsonl").write_text(line)
    with pytest.raises(ManifestError, match=told) as raised:
        read_manifest(tmp_path / "m.jsonl")
    assert "Error" not in str(raised.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_marks_and_line_ends_of_windows(tmp_path, mark, end):
    path = tmp_path / "m.jsonl"
    second = f"{mark}{line(text='b', offset=2)}"  # of a file that was joined with the first
    path.write_bytes(f"{mark}{line()}{end}{end}{second}{end}".encode())
    first, second = read_manifest(path)
    assert (first.text, first.offset, first.extra) == ("a", None, {})
    assert (second.text, second.offset, second.extra) == ("b", 2.0, {})


def test_a_part_of_a_file_is_read(tmp_path):
    waveform = np.linspace(-0.5, 0.5, 32_000, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", waveform, 16_000, "FLOAT")
    (tmp_path / "m.jsonl").write_text(f"{line(offset=0.5)}\n{line(offset=0)}\n{line()}\n")
    middle, beginning, whole = map(read_audio, read_manifest(tmp_path / "m.jsonl"))
    np.testing.assert_array_equal(middle, waveform[8_000:24_000])
    np.testing.assert_array_equal(beginning, waveform[:16_000])
    np.testing.assert_array_equal(whole, waveform)


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "none.jsonl")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match="not UTF-8"):
        read_manifest(tmp_path / "b.jsonl")


def test_single_recordings_are_held_out_of_texts_that_remain():
    found = [Utterance(f"/a/{i}.wav", 1.0, f"word {i % 10}", "ann") for i in range(100)]
    found += [Utterance("/a/alone.wav", 1.0, "said once", "ann")]
    rest, dev = hold_out(found, 0.2, "recording")
    assert len(dev) == 20
    assert len(rest) == 81
    assert {u.text for u in dev} <= {u.text for u in rest}
    elsewhere = [Utterance(u.audio_filepath.replace("/a/", "/b/"), 1.0, u.text) for u in found]
    assert [u.audio_filepath[3:] for u in hold_out(elsewhere, 0.2, "recording")[1]] == [
        u.audio_filepath[3:] for u in dev
    ]
    # However much is wanted, no text loses its last recording.
    rest, _ = hold_out(found, 0.99, "recording")
    assert len(rest) == len({u.text for u in found})


@pytest.mark.parametrize(("by", "message"), [("speaker", "not every"), ("recording", "no other")])
def test_what_cannot_be_held_out(by, message):
    found = [Utterance(f"{i}.wav", 1.0, f"word {i}") for i in range(3)]
    with pytest.raises(ManifestError, match=message):
        hold_out(found, 0.5, by)


def test_what_is_no_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    for name in ("fifo", "zeros", "missing", "."):
        with pytest.raises(ManifestError, match="cannot be read"):
            read_manifest(tmp_path / name)


def test_an_open_pipe_is_read():
    """As a shell's `<(command)` is."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as pipe:
        pipe.write(b'{"audio_filepath": "/a.wav", "duration": 1, "text": "a"}\n')
    assert read_manifest(f"/dev/fd/{read_end}")[0].text == "a"
    os.close(read_end)

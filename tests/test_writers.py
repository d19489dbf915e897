"""Output formats: golden files, the rules of subtitles, and times that survive every format."""

from __future__ import annotations

import errno
import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr import writers
from asr.errors import ConfigError
from asr.subtitles import SubtitleLayout
from asr.types import Loss, Segment, Transcript, Unit, Word

HELLO = Segment(
    0.25, 1.5, "hello world", (Word("hello", 0.25, 0.7, 0.987654), Word("world", 0.8, 1.5, 0.5))
)
BYE = Segment(61.0, 62.0, "good-bye", (Word("good-bye", 61.0, 62.0, 1.0),))
TRANSCRIPT = Transcript((HELLO, BYE), 63.00049, "tiny")

GOLDEN = {
    "txt": "hello world\ngood-bye\n",
    "srt": (
        "1\n00:00:00,250 --> 00:00:01,500\nhello world\n\n"
        "2\n00:01:01,000 --> 00:01:02,000\ngood-bye\n"
    ),
    "vtt": (
        "WEBVTT\n\n00:00:00.250 --> 00:00:01.500\nhello world\n\n"
        "00:01:01.000 --> 00:01:02.000\ngood-bye\n"
    ),
    "tsv": "start\tend\ttext\n0.250\t1.500\thello world\n61.000\t62.000\tgood-bye\n",
    "ctm": (
        "my_talk 1 0.250 0.450 hello 0.988\n"
        "my_talk 1 0.800 0.700 world 0.500\n"
        "my_talk 1 61.000 1.000 good-bye 1.000\n"
    ),
    "jsonl": (
        '{"start": 0.25, "end": 1.5, "text": "hello world", "words": ['
        '{"word": "hello", "start": 0.25, "end": 0.7, "confidence": 0.988}, '
        '{"word": "world", "start": 0.8, "end": 1.5, "confidence": 0.5}]}\n'
        '{"start": 61.0, "end": 62.0, "text": "good-bye", "words": ['
        '{"word": "good-bye", "start": 61.0, "end": 62.0, "confidence": 1.0}]}\n'
    ),
    "md": "hello world\n\ngood-bye\n",
    "TextGrid": """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.000
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "segments"
        xmin = 0
        xmax = 2.000
        intervals: size = 3
        intervals [1]:
            xmin = 0.000
            xmax = 0.250
            text = ""
        intervals [2]:
            xmin = 0.250
            xmax = 1.500
            text = "say ""hi\"""
        intervals [3]:
            xmin = 1.500
            xmax = 2.000
            text = ""
    item [2]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 2.000
        intervals: size = 1
        intervals [1]:
            xmin = 0.000
            xmax = 2.000
            text = ""
""",
}


@pytest.mark.parametrize("format", [f for f in GOLDEN if f != "TextGrid"])
def test_golden(format: str) -> None:
    assert writers.render(TRANSCRIPT, format, "my talk") == GOLDEN[format]


def test_golden_textgrid() -> None:
    transcript = Transcript((Segment(0.25, 1.5, 'say "hi"'),), 2.0)
    assert writers.render(transcript, "TextGrid") == GOLDEN["TextGrid"]


def test_json_is_as_documented() -> None:
    assert json.loads(writers.render(TRANSCRIPT, "json")) == {
        "text": "hello world good-bye",
        "duration": 63.0,
        "model": "tiny",
        "segments": [json.loads(line) for line in GOLDEN["jsonl"].splitlines()],
    }


def test_words_of_webvtt_have_their_times() -> None:
    layout = SubtitleLayout(max_line_width=8, highlight_words=True)
    assert writers.render(TRANSCRIPT, "vtt", layout=layout).startswith(
        "WEBVTT\n\n00:00:00.250 --> 00:00:01.500\n<c>hello</c>\n<00:00:00.800><c>world</c>\n"
    )


def test_editors_read_the_markers(tmp_path: Path) -> None:
    path = tmp_path / "talk.otio"
    writers.save(TRANSCRIPT, path)
    markers = json.loads(path.read_text())["tracks"]["markers"]
    assert [marker["name"] for marker in markers] == ["hello world", "good-bye"]
    assert markers[1]["marked_range"]["start_time"] == {
        "OTIO_SCHEMA": "RationalTime.1",
        "rate": 1000.0,
        "value": 61000.0,
    }
    otio = pytest.importorskip("opentimelineio")
    timeline = otio.adapters.read_from_file(str(path))
    assert [marker.marked_range.duration.to_seconds() for marker in timeline.tracks.markers] == [
        1.25,
        1.0,
    ]


def test_paragraphs_end_at_pauses() -> None:
    close = Segment(2.0, 3.0, "again")
    text = writers.render(replace(TRANSCRIPT, segments=(HELLO, close, BYE)), "md")
    assert text == "hello world again\n\ngood-bye\n"


@pytest.mark.parametrize("format", writers.FORMATS)
def test_nothing_said(format: str) -> None:
    text = writers.render(Transcript((), 4.0), format)
    assert "nan" not in text


CALL = Transcript(
    (
        replace(HELLO, channel=0),
        Segment(1.0, 1.75, "hi <b>", (Word("hi", 1.0, 1.2), Word("<b>", 1.3, 1.75)), channel=1),
        replace(BYE, channel=0),
    ),
    63.0,
    by_channel=True,
)
CALL_GOLDEN = {
    "txt": "channel 0: hello world\nchannel 1: hi <b>\nchannel 0: good-bye\n",
    "srt": (
        "1\n00:00:00,250 --> 00:00:01,500\nchannel 0: hello world\n\n"
        "2\n00:00:01,000 --> 00:00:01,800\nchannel 1: hi <b>\n\n"
        "3\n00:01:01,000 --> 00:01:02,000\nchannel 0: good-bye\n"
    ),
    "vtt": (
        "WEBVTT\n\n00:00:00.250 --> 00:00:01.500\n<v channel 0>hello world\n\n"
        "00:00:01.000 --> 00:00:01.800\n<v channel 1>hi &lt;b&gt;\n\n"
        "00:01:01.000 --> 00:01:02.000\n<v channel 0>good-bye\n"
    ),
    "tsv": (
        "start\tend\ttext\tchannel\n0.250\t1.500\thello world\t0\n"
        "1.000\t1.750\thi <b>\t1\n61.000\t62.000\tgood-bye\t0\n"
    ),
    "ctm": (
        "my_talk 1 0.250 0.450 hello 0.988\nmy_talk 1 0.800 0.700 world 0.500\n"
        "my_talk 2 1.000 0.200 hi 1.000\nmy_talk 2 1.300 0.450 <b> 1.000\n"
        "my_talk 1 61.000 1.000 good-bye 1.000\n"
    ),
}


@pytest.mark.parametrize("format", writers.FORMATS)
def test_channels_are_named(format: str) -> None:
    text = writers.render(CALL, format, "my talk")
    assert text == CALL_GOLDEN.get(format, text)
    if format == "json":
        assert [segment["channel"] for segment in json.loads(text)["segments"]] == [0, 1, 0]
    if format == "jsonl":
        assert [json.loads(line)["channel"] for line in text.splitlines()] == [0, 1, 0]
    if format == "TextGrid":
        names = re.findall(r'name = "(.*)"', text)
        assert names == [f"{t} channel {c}" for c in (0, 1) for t in ("segments", "words")]


@pytest.mark.parametrize("format", ["txt", "srt", "vtt", "tsv", "TextGrid"])
def test_one_channel_that_was_taken_needs_no_name(format: str) -> None:
    one = replace(TRANSCRIPT, segments=tuple(replace(s, channel=1) for s in TRANSCRIPT.segments))
    assert writers.render(one, format) == writers.render(TRANSCRIPT, format)


def test_notices_are_in_json() -> None:
    noticed = replace(TRANSCRIPT, notices=("channel 1 is left out",))
    assert json.loads(writers.render(noticed, "json"))["notices"] == ["channel 1 is left out"]


def test_vtt_escapes_markup() -> None:
    transcript = Transcript((Segment(0, 1, "<b> & --> x"),), 1.0)
    assert "&lt;b&gt; &amp; --&gt; x" in writers.render(transcript, "vtt")


def test_save_takes_the_format_from_the_name(tmp_path: Path) -> None:
    TRANSCRIPT.save(tmp_path / "my talk.CTM")
    TRANSCRIPT.save(str(tmp_path / "a.textgrid"))
    assert (tmp_path / "my talk.CTM").read_text() == GOLDEN["ctm"]
    assert (tmp_path / "a.textgrid").read_text().startswith('File type = "ooTextFile"')
    assert len(list(tmp_path.iterdir())) == 2  # no temporary is left
    with pytest.raises(ConfigError, match=r"unknown format 'docx' \(one of: txt, srt"):
        TRANSCRIPT.save(tmp_path / "a.docx")


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("old")

    def full(path: Path, text: str, **options: object) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            TRANSCRIPT.save(tmp_path / "a.txt")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Words in order, at least a frame long, parted into segments at random."""
    token = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z")), min_size=1, max_size=42)
    time, segments = 0.0, []
    for _ in range(draw(st.integers(0, 4))):
        words = []
        for _ in range(draw(st.integers(0, 30))):
            start = time + draw(st.floats(0, 3))
            time = start + draw(st.floats(0.03, 1.5))
            words.append(Word(draw(token), start, time, draw(st.floats(0, 1))))
        begin = words[0].start if words else time
        segments.append(Segment(begin, time, " ".join(w.word for w in words), tuple(words)))
    return Transcript(tuple(segments), time + draw(st.floats(0, 2)))


@pytest.mark.parametrize("format", writers.FORMATS)
def test_what_is_written_as_it_comes_is_the_file(format: str) -> None:
    writer = writers.writer_for(format)("my talk", SubtitleLayout())
    parts = [writer.begin(), *map(writer.add, TRANSCRIPT.segments), writer.end(TRANSCRIPT)]
    assert "".join(parts) == writers.render(TRANSCRIPT, format, "my talk")
    if format in ("txt", "tsv", "ctm", "jsonl"):  # of which no line waits for the next segment
        assert parts[-1] == ""


def tier(text: str, name: str) -> list[tuple[float, float, str]]:
    """The intervals of a tier of a TextGrid."""
    part = text.split(f'name = "{name}"')[1].split("item [")[0]
    found = re.findall(r"xmin = (\S+)\s+xmax = (\S+)\s+text = \"(.*)\"", part)
    return [(float(a), float(b), word) for a, b, word in found]


@pytest.mark.parametrize(
    "times",
    [
        [(0.5, 0.5), (0.5, 0.5), (0.5, 1.0)],  # before a word
        [(0.0, 0.0), (0.2, 1.0), (1.0, 1.0)],  # at the beginning, and at the end
        [(0.0, 1.0), (0.4, 0.4), (0.4, 0.6)],  # within another
        [(1.0, 1.0)] * 3,
        [(0.9999, 0.9999), (1.0, 1.0), (1.0, 1.0)],
    ],
)
def test_textgrid_keeps_words_without_length(times: list[tuple[float, float]]) -> None:
    words = tuple(Word(f"w{i}", a, b) for i, (a, b) in enumerate(times))
    transcript = Transcript((Segment(0.0, 1.0, "w0 w1 w2", words),), 1.0)
    intervals = tier(writers.render(transcript, "TextGrid"), "words")
    assert [text for _, _, text in intervals if text] == ["w0", "w1", "w2"]
    assert all(a < b for a, b, _ in intervals)
    assert all(x[1] == y[0] for x, y in pairwise(intervals))
    assert (intervals[0][0], intervals[-1][1]) == (0.0, 1.0)


@given(transcripts())
def test_times_survive(transcript: Transcript) -> None:
    expected = [(w.start, w.end) for w in transcript.words]

    data = json.loads(writers.render(transcript, "json"))
    words = [(w["start"], w["end"]) for s in data["segments"] for w in s["words"]]
    assert words == [(round(a, 3), round(b, 3)) for a, b in expected]

    lines = writers.render(transcript, "ctm").splitlines()
    fields = [line.split(" ") for line in lines]
    assert all(len(f) == 6 for f in fields)
    for (start, end), f in zip(expected, fields, strict=True):
        assert float(f[2]) == pytest.approx(start, abs=6e-4)
        assert float(f[2]) + float(f[3]) == pytest.approx(end, abs=1.1e-3)


@given(transcripts())
def test_textgrid_tiers_cover_the_recording(transcript: Transcript) -> None:
    text = writers.render(transcript, "TextGrid")
    for tier in text.split("item [")[2:]:
        intervals = re.findall(r"intervals \[\d+\]:\s+xmin = (\S+)\s+xmax = (\S+)", tier)
        times = [(float(a), float(b)) for a, b in intervals]
        assert all(a < b for a, b in times)
        if times:
            assert times[0][0] == 0
            assert times[-1][1] == pytest.approx(transcript.duration, abs=6e-4)
        assert all(x[1] == y[0] for x, y in pairwise(times))


def test_units_where_there_are_some() -> None:
    units = (Unit("h", 0.1, 0.2, 0.9), Unit("i", 0.3, 0.4, 0.8))
    words = (Word("hi", 0.1, 0.4, 0.85, units), Word("you", 0.5, 0.6, 0.0))
    transcript = Transcript((Segment(0.1, 0.6, "hi you", words),), 1.0)
    first, second = json.loads(writers.render(transcript, "json"))["segments"][0]["words"]
    assert first["units"] == [
        {"symbol": "h", "start": 0.1, "end": 0.2, "confidence": 0.9},
        {"symbol": "i", "start": 0.3, "end": 0.4, "confidence": 0.8},
    ]
    assert "units" not in second
    grid = writers.render(transcript, "TextGrid")
    assert "size = 3\n" in grid
    assert re.search(r'name = "units".*xmin = 0.300\s+xmax = 0.400\s+text = "i"', grid, re.DOTALL)


def test_machine_formats_name_what_is_missing() -> None:
    losses = (Loss(2.0, 2.5, "damaged: no header"), Loss(63.0, None, "truncated"))
    damaged = replace(TRANSCRIPT, losses=losses)
    assert json.loads(writers.render(damaged, "json"))["losses"] == [
        {"start": 2.0, "end": 2.5, "reason": "damaged: no header"},
        {"start": 63.0, "end": None, "reason": "truncated"},
    ]
    lines = [json.loads(line) for line in writers.render(damaged, "jsonl").splitlines()]
    assert [line.get("loss") for line in lines] == [None, None, "damaged: no header", "truncated"]
    assert "\nNOTE missing 2.000-2.500 s: damaged: no header\n\n" in writers.render(damaged, "vtt")
    assert ";; talk missing 63.000- s: truncated\n" in writers.render(damaged, "ctm", "talk")
    assert 'text = "damaged: no header"' in writers.render(damaged, "TextGrid")
    for format in ("txt", "srt", "tsv"):
        assert writers.render(damaged, format) == writers.render(TRANSCRIPT, format)

"""Subtitles: the rules that they keep, and where lines and cues end."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.subtitles import CUE_SECONDS, CueBuilder, SubtitleLayout, cues
from asr.types import Segment, Transcript, Word


def spoken(text: str, seconds: float = 0.3, pauses: dict[str, float] | None = None) -> Transcript:
    """A transcript of one segment: words of equal length, with `pauses` (s) behind some."""
    time, words = 0.0, []
    for word in text.split():
        words.append(Word(word, time, time + 0.9 * seconds))
        time += seconds + (pauses or {}).get(word, 0.0)
    return Transcript((Segment(0.0, time, text, tuple(words)),), time)


def test_long_segments_become_several_cues() -> None:
    words = tuple(Word(f"word{i:02}", i * 0.5, i * 0.5 + 0.4) for i in range(40))
    transcript = Transcript((Segment(0, 20, " ".join(w.word for w in words), words),), 20.0)
    found = cues(transcript)
    assert len(found) == 4  # twelve words of six letters fit in two lines
    assert found[0].lines == ("word00 word01 word02 word03 word04 word05",
                              "word06 word07 word08 word09 word10 word11")  # fmt: skip
    assert (found[0].start, found[0].end) == (0.0, 5.9)


def test_segments_without_words_are_spread_by_length() -> None:
    transcript = Transcript((Segment(10.0, 30.0, "aaaa " * 40),), 30.0)
    found = cues(transcript)
    assert found[0].start == 10.0
    assert found[-1].end == 30.0
    assert all(cue.end - cue.start <= CUE_SECONDS for cue in found)


@pytest.mark.parametrize(
    ("text", "pauses", "lines"),
    [
        # behind punctuation
        ("Well, I never thought that it would rain.", {}, None),
        ("Yes, of course. The train for London leaves at noon", {},
         ("Yes, of course.", "The train for London leaves at noon")),
        # before a conjunction, and not behind it
        ("we walked along the river and they took the early bus", {},
         ("we walked along the river", "and they took the early bus")),
        # in a pause
        ("seven eight nine ten eleven twelve thirteen fourteen", {"ten": 0.4},
         ("seven eight nine ten", "eleven twelve thirteen fourteen")),
        # not behind an article or a preposition
        ("doctor brown examined everything in the wooden house", {},
         ("doctor brown examined everything", "in the wooden house")),
    ],
)  # fmt: skip
def test_lines_end_where_clauses_do(
    text: str, pauses: dict[str, float], lines: tuple[str, ...] | None
) -> None:
    (cue,) = cues(spoken(text, pauses=pauses))
    assert cue.lines == (lines or (text,))


def test_cues_end_where_clauses_do() -> None:
    text = (
        "When the old observatory was closed, nobody knew what to do with the great telescope,"
        " so the town sold it, and the dome became a café."
    )
    found = [" ".join(cue.lines) for cue in cues(spoken(text, 0.25))]
    assert len(found) == 3
    assert all(text.endswith((",", ".")) for text in found)


@pytest.mark.parametrize(("width", "count"), [(20, 1), (32, 2), (16, 3), (80, 1), (10, 2), (1, 1)])
def test_layout_is_kept(width: int, count: int) -> None:
    transcript = spoken("no one in the small town knew what to do with that thing any more " * 3)
    found = cues(transcript, SubtitleLayout(width, count))
    assert " ".join(" ".join(cue.lines) for cue in found).split() == [
        word.word for word in transcript.words
    ]
    assert all(len(cue.lines) <= count for cue in found)
    lines = [line for cue in found for line in cue.lines]
    assert all(len(line) <= width or " " not in line for line in lines)


@st.composite
def transcripts(draw: st.DrawFn) -> Transcript:
    """Words in order, at least a frame long, in segments at random."""
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


@given(transcripts())
def test_subtitle_rules(transcript: Transcript) -> None:
    found = cues(transcript)
    for cue in found:
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < len(line) <= 42 for line in cue.lines)
        assert 0 < cue.end - cue.start <= CUE_SECONDS + 1e-9
    for earlier, later in pairwise(found):
        assert earlier.end <= later.start
    said = " ".join(" ".join(cue.lines) for cue in found)
    assert said.split() == [w.word for w in transcript.words]


def test_words_without_length_have_cues() -> None:
    segments = [
        Segment(1.0, 1.0, text, (Word(text, 1.0, 1.0, 0.0),)) for text in ("one", "two", "three")
    ]
    found = cues(Transcript(tuple(segments), 1.0))
    assert [cue.lines for cue in found] == [("one",), ("two",), ("three",)]
    assert all(cue.start < cue.end for cue in found)
    assert all(earlier.end <= later.start for earlier, later in pairwise(found))


def test_a_cue_waits_for_the_next_at_most() -> None:
    first, second = spoken("one two three"), spoken("four five six")
    builder = CueBuilder(SubtitleLayout())
    assert builder.add(first.segments[0]) == []
    (cue,) = builder.add(second.segments[0])
    assert cue.lines == ("one two three",)
    (last,) = builder.end(10.0)
    assert last.lines == ("four five six",)

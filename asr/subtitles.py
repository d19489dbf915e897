"""Subtitles: a transcript divided into cues and lines.

The usual rules of broadcasters: lines of at most 42 characters, two lines and seven seconds a cue.
Within them, cues and lines end where clauses do: behind punctuation, in pauses, before
conjunctions; and rather not behind an article or a preposition.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from asr.types import Segment, Transcript, Word

CUE_SECONDS = 7.0
SHORTEST_CUE_SECONDS = 0.8  # a shorter one cannot be read; it stays until the next if there is room
MIN_CUE_SECONDS = 0.001  # of words without length: a cue that ends where it begins is not valid
PAUSE_SECONDS = 1.0  # a longer pause between two words begins a new cue

# What a break between two words costs, in cues: a division that needs one cue more, but breaks
# between clauses instead of within one, is the better one.
_SENTENCE, _CLAUSE, _PAUSE, _CONJUNCTION, _PHRASE, _PLAIN, _TORN = (
    0.0,
    0.1,
    0.15,
    0.2,
    1.1,
    1.3,
    2.0,
)
_CLAUSE_PAUSE_SECONDS = 0.25
_UNEVEN = 0.5  # of a line that is empty
_FLEETING, _FLEETING_SECONDS = (
    0.8,
    1.5,
)  # of a cue that is gone at once, and from when on it is none
_CONJUNCTIONS = frozenset(
    """and but or nor so yet because although though while when whenever where wherever after before
    until till since unless if whether that which who whom whose what how why as than""".split()
)
# These belong to the word behind them, as conjunctions do.
_LEANING = _CONJUNCTIONS | frozenset(
    """a an the this these those my your his her its our their some any no every each of in on at to
    from by with for into onto about over under between through i you he she it we they is are was
    were be been am has have had do does did will would can could shall should may might must not
    very more most mr mrs ms dr st""".split()
)


@dataclass(frozen=True, slots=True)
class SubtitleLayout:
    """max_line_width: characters. max_line_count: lines in a cue. highlight_words: in WebVTT, each
    word with its time, so that players can highlight it."""

    max_line_width: int = 42
    max_line_count: int = 2
    highlight_words: bool = False


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: what is on the screen from `start` to `end` (seconds).

    `channel` is the channel that speaks, where each was transcribed by itself; `words` are those
    of the lines, with their times.
    """

    start: float
    end: float
    lines: tuple[str, ...]
    channel: int | None = None
    words: tuple[Word, ...] = field(default=(), compare=False)


def cues(transcript: Transcript, layout: SubtitleLayout | None = None) -> list[Cue]:
    """The transcript as subtitles that never overlap.

    A cue ends at the end of a segment, at a long pause, and before a word that would break the
    rules. (A single word may break them: it is never divided.)
    """
    builder = CueBuilder(layout or SubtitleLayout())
    found = [cue for segment in transcript.segments for cue in builder.add(segment)]
    return found + builder.end(transcript.duration)


def channel_cues(transcript: Transcript, layout: SubtitleLayout | None = None) -> list[Cue]:
    """The subtitles of each channel by itself, in order of start; those of two may overlap."""
    found = []
    for channel in sorted({s.channel for s in transcript.segments if s.channel is not None}):
        own = tuple(s for s in transcript.segments if s.channel == channel)
        alone = cues(replace(transcript, segments=own), layout)
        found += [replace(cue, channel=channel) for cue in alone]
    return sorted(found, key=lambda cue: (cue.start, cue.channel))


class CueBuilder:
    """Cues of segments that come one after the other; each is given once its end is certain."""

    def __init__(self, layout: SubtitleLayout):
        self._layout = layout
        self._waiting: list[Word] = []  # words of the last cue, which may stay until the next
        self._end = 0.0  # of the last cue that was given

    def add(self, segment: Segment) -> list[Cue]:
        """The cues that are certain once this segment is known."""
        found = []
        for group in _groups(segment.words or _spread(segment), self._layout):
            if self._waiting:
                found.append(self._cue(group[0].start))
            self._waiting = group
        return found

    def end(self, duration: float) -> list[Cue]:
        """The last cue of a recording of `duration` seconds, if there is one."""
        found = [self._cue(math.inf, duration)] if self._waiting else []
        self._waiting = []
        return found

    def _cue(self, following: float, duration: float = math.inf) -> Cue:
        """What waits, as a cue that ends before the time `following`."""
        words = self._waiting
        start = max(words[0].start, self._end)
        end = min(max(words[-1].end, start + SHORTEST_CUE_SECONDS), following)
        end = min(end, start + CUE_SECONDS, duration)
        self._end = max(end, start + MIN_CUE_SECONDS)
        return Cue(start, self._end, _wrap(words, self._layout), words=tuple(words))


def _groups(words: Sequence[Word], layout: SubtitleLayout) -> Iterator[list[Word]]:
    """The words of a segment, in cues: of all divisions that keep the rules, the one that costs
    least (and of equal ones the one whose first cues are longest)."""
    best = [math.inf] * len(words) + [-1.0]  # cost of the words from each on
    ends = [0] * len(words)
    for first in range(len(words) - 1, -1, -1):
        for end in range(first + 1, len(words) + 1):
            if end > first + 1 and not _fits(words[first:end], layout):
                break
            cost = 1.0 + best[end] + (_break_cost(words, end) if end < len(words) else 0.0)
            seconds = words[end - 1].end - words[first].start
            cost += _FLEETING * max(0.0, 1 - seconds / _FLEETING_SECONDS)
            if cost <= best[first] + 1e-9:
                best[first], ends[first] = cost, end
    first = 0
    while first < len(words):
        yield list(words[first : ends[first]])
        first = ends[first]


def _fits(words: Sequence[Word], layout: SubtitleLayout) -> bool:
    """Whether words that fit without the last of them make one cue."""
    return (
        words[-1].start - words[-2].end <= PAUSE_SECONDS
        and words[-1].end - words[0].start <= CUE_SECONDS
        and _line_count(words, layout) <= layout.max_line_count
    )


def _line_count(words: Sequence[Word], layout: SubtitleLayout) -> int:
    """How many lines the words fill, one after the other."""
    count, width = 1, len(words[0].word)
    for word in words[1:]:
        width += 1 + len(word.word)
        if width > layout.max_line_width:
            count, width = count + 1, len(word.word)
    return count


def _wrap(words: Sequence[Word], layout: SubtitleLayout) -> tuple[str, ...]:
    """As few lines as the words fit in, broken where that costs least."""
    texts = [word.word for word in words]
    width = layout.max_line_width

    @functools.cache
    def best(first: int, lines: int) -> tuple[float, tuple[str, ...]]:
        if lines == 1:
            line = " ".join(texts[first:])
            fits = len(line) <= width or first == len(texts) - 1
            return (_unused(line, width) if fits else math.inf), (line,)
        found: tuple[float, tuple[str, ...]] = (math.inf, ())
        for end in range(first + 1, len(texts) - lines + 2):
            line = " ".join(texts[first:end])
            if len(line) > width and end > first + 1:
                break
            cost, rest = best(end, lines - 1)
            cost += _unused(line, width) + _break_cost(words, end)
            found = min(found, (cost, (line, *rest)), key=lambda choice: choice[0])
        return found

    return best(0, _line_count(words, layout))[1]


def _unused(line: str, width: int) -> float:
    """Squares sum up least where lines are of equal length."""
    return _UNEVEN * (max(0, width - len(line)) / width) ** 2


def _break_cost(words: Sequence[Word], at: int) -> float:
    """What it costs to break before the word `at`."""
    before, after = words[at - 1], words[at]
    if before.word.endswith((".", "?", "!", "…", "。", "？", "！")):
        return _SENTENCE
    if before.word.endswith((",", ";", ":", "–", "—", "、", "，")):
        return _CLAUSE
    if after.start - before.end >= _CLAUSE_PAUSE_SECONDS:
        return _PAUSE
    if before.word.lower() in _LEANING:
        return _TORN
    if after.word.lower() in _CONJUNCTIONS:
        return _CONJUNCTION
    return _PHRASE if after.word.lower() in _LEANING else _PLAIN


def _spread(segment: Segment) -> list[Word]:
    """Words of a segment that has none with times: its time shared out by their lengths."""
    texts = segment.text.split()
    total = sum(map(len, texts))
    words, done = [], 0
    for text in texts:
        begin, done = done, done + len(text)
        start, end = (
            segment.start + (segment.end - segment.start) * part / total for part in (begin, done)
        )
        words.append(Word(text, start, end))
    return words

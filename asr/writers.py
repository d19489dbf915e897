"""Transcripts as files: txt, srt, vtt, json, jsonl, tsv, ctm and TextGrid.

Each writer is a function of a transcript and the recording's name; `FORMATS` lists them by file
extension. Subtitles follow the usual rules of broadcasters: lines of at most 42 characters, two
lines and seven seconds a cue.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from asr.errors import ConfigError
from asr.files import replacing
from asr.types import Loss, Segment, Transcript, Unit, Word

LINE_CHARACTERS = 42
CUE_LINES = 2
CUE_SECONDS = 7.0
SHORTEST_CUE_SECONDS = 0.8  # a shorter one cannot be read; it stays until the next if there is room
PAUSE_SECONDS = 1.0  # a longer pause between two words begins a new cue


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: what is on the screen from `start` to `end` (seconds)."""

    start: float
    end: float
    lines: tuple[str, ...]


def render(transcript: Transcript, format: str, name: str = "recording") -> str:
    """The transcript of the recording `name` in one of `FORMATS`, as the text of a file.

    Raises ConfigError for an unknown format.
    """
    return writer_for(format)(transcript, name)


def save(transcript: Transcript, path: str | os.PathLike[str], format: str | None = None) -> None:
    """Write `path`, which appears at once and whole; its extension is the format unless given.

    Raises ConfigError for an unknown format.
    """
    path = Path(path)
    text = render(transcript, format or path.suffix.removeprefix("."), path.stem)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def writer_for(format: str) -> Writer:
    """The writer of a format, by its extension in any case; ConfigError if there is none."""
    for known, writer in FORMATS.items():
        if known.lower() == format.lower():
            return writer
    raise ConfigError(f"unknown format {format!r}", f"one of: {', '.join(FORMATS)}")


def to_txt(transcript: Transcript, name: str) -> str:
    """One line a segment."""
    return _lines(_one_line(segment.text) for segment in transcript.segments if segment.text)


def to_srt(transcript: Transcript, name: str) -> str:
    """SubRip subtitles."""
    return "\n".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_lines(cue.lines)}"
        for number, cue in enumerate(cues(transcript), start=1)
    )


def to_vtt(transcript: Transcript, name: str) -> str:
    """WebVTT subtitles (W3C); what the recording has lost is a note."""
    notes = "".join(f"\nNOTE {_named(loss)}\n" for loss in transcript.losses)
    return (
        "WEBVTT\n"
        + notes
        + "".join(
            f"\n{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n"
            + html.escape(_lines(cue.lines), quote=False)
            for cue in cues(transcript)
        )
    )


def to_json(transcript: Transcript, name: str) -> str:
    """One object with everything; times in seconds, rounded to milliseconds."""
    data = {
        "text": transcript.text,
        "duration": _milli(transcript.duration),
        "model": transcript.model,
        "segments": [_segment_dict(segment) for segment in transcript.segments],
    }
    if transcript.losses:
        data["losses"] = [loss_dict(loss) for loss in transcript.losses]
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def to_jsonl(transcript: Transcript, name: str) -> str:
    """One object a segment and line; then one a loss, known by its key `loss`."""
    entries = [_segment_dict(segment) for segment in transcript.segments]
    entries += [
        {"start": _milli(loss.start), "end": _end(loss), "loss": loss.reason}
        for loss in transcript.losses
    ]
    return _lines(json.dumps(entry, ensure_ascii=False) for entry in entries)


def to_tsv(transcript: Transcript, name: str) -> str:
    """Tab-separated start, end (seconds) and text, one segment a line."""
    rows = (f"{s.start:.3f}\t{s.end:.3f}\t{_one_line(s.text)}" for s in transcript.segments)
    return _lines(["start\tend\ttext", *rows])


def to_ctm(transcript: Transcript, name: str) -> str:
    """NIST time-marked words: recording, channel, start, duration, word, confidence.

    What the recording has lost is a comment.
    """
    recording = "_".join(name.split()) or "recording"
    comments = [f";; {recording} {_named(loss)}" for loss in transcript.losses]
    return _lines(comments) + _lines(
        f"{recording} 1 {_milli(w.start):.3f} {_milli(w.end) - _milli(w.start):.3f}"
        f" {w.word} {w.confidence:.3f}"
        for w in transcript.words
    )


def to_textgrid(transcript: Transcript, name: str) -> str:
    """Praat's long text format, with a tier of segments, one of words, and one of units if any."""
    tiers = {
        "segments": [(s.start, s.end, s.text) for s in transcript.segments],
        "words": [(w.start, w.end, w.word) for w in transcript.words],
    }
    if units := [(u.start, u.end, u.symbol) for w in transcript.words for u in w.units]:
        tiers["units"] = units
    if transcript.losses:
        tiers["losses"] = [
            (loss.start, transcript.duration if loss.end is None else loss.end, loss.reason)
            for loss in transcript.losses
        ]
    duration = max([transcript.duration, *(end for tier in tiers.values() for _, end, _ in tier)])
    header = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {duration:.3f}",
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    return _lines(
        header
        + [
            line
            for number, (tier, entries) in enumerate(tiers.items(), start=1)
            for line in _tier_lines(number, tier, list(_intervals(entries, duration)), duration)
        ]
    )


Writer: TypeAlias = Callable[[Transcript, str], str]
FORMATS: dict[str, Writer] = {
    "txt": to_txt,
    "srt": to_srt,
    "vtt": to_vtt,
    "json": to_json,
    "jsonl": to_jsonl,
    "tsv": to_tsv,
    "ctm": to_ctm,
    "TextGrid": to_textgrid,
}


def cues(transcript: Transcript) -> list[Cue]:
    """The transcript as subtitles that never overlap.

    A cue ends at the end of a segment, at a long pause, and before a word that would break the
    rules. (A single word may break them: it is never divided.)
    """
    groups = [
        group
        for segment in transcript.segments
        for group in _cue_words(segment.words or _spread(segment))
    ]
    result: list[Cue] = []
    for i, group in enumerate(groups):
        start = max(group[0].start, result[-1].end if result else 0.0)
        end = max(group[-1].end, start + SHORTEST_CUE_SECONDS)
        if i + 1 < len(groups):
            end = min(end, groups[i + 1][0].start)
        end = max(start, min(end, start + CUE_SECONDS, transcript.duration))
        result.append(Cue(start, end, _wrap([w.word for w in group])))
    return result


def _cue_words(words: Iterable[Word]) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group and not _fits(group, word):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _fits(group: list[Word], word: Word) -> bool:
    return (
        word.start - group[-1].end <= PAUSE_SECONDS
        and word.end - group[0].start <= CUE_SECONDS
        and len(_fill([*(w.word for w in group), word.word])) <= CUE_LINES
    )


def _fill(words: list[str]) -> list[str]:
    """Lines filled one after the other."""
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= LINE_CHARACTERS:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def _wrap(words: list[str]) -> tuple[str, ...]:
    """One line if the words fit there, else two of about equal length."""
    filled = _fill(words)
    if len(filled) != CUE_LINES:
        return tuple(filled)
    halves = [(" ".join(words[:i]), " ".join(words[i:])) for i in range(1, len(words))]
    return min(halves, key=lambda lines: max(map(len, lines)))


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


def _segment_dict(segment: Segment) -> dict[str, Any]:
    return {
        "start": _milli(segment.start),
        "end": _milli(segment.end),
        "text": segment.text,
        "words": [_word_dict(word) for word in segment.words],
    }


def _word_dict(word: Word) -> dict[str, Any]:
    data: dict[str, Any] = {"word": word.word, **_place_dict(word)}
    if word.units:
        data["units"] = [{"symbol": unit.symbol, **_place_dict(unit)} for unit in word.units]
    return data


def _place_dict(part: Word | Unit) -> dict[str, float]:
    return {
        "start": _milli(part.start),
        "end": _milli(part.end),
        "confidence": _milli(part.confidence),
    }


def loss_dict(loss: Loss) -> dict[str, Any]:
    """Times in seconds; `end` is None where it is not known."""
    return {"start": _milli(loss.start), "end": _end(loss), "reason": loss.reason}


def _end(loss: Loss) -> float | None:
    return None if loss.end is None else _milli(loss.end)


def _named(loss: Loss) -> str:
    end = "" if loss.end is None else f"{loss.end:.3f}"
    return f"missing {loss.start:.3f}-{end} s: {_one_line(loss.reason)}"


def _intervals(
    entries: list[tuple[float, float, str]], duration: float
) -> Iterator[tuple[float, float, str]]:
    """`entries` with the gaps between them, so that they cover 0..duration without overlap."""
    position = 0.0
    for start, end, text in entries:
        start, end = max(_milli(start), position), _milli(end)
        if end <= start:
            continue
        if start > position:
            yield position, start, ""
        yield start, end, text
        position = end
    if _milli(duration) > position:
        yield position, _milli(duration), ""


def _tier_lines(
    number: int, name: str, intervals: list[tuple[float, float, str]], duration: float
) -> list[str]:
    lines = [
        f"    item [{number}]:",
        '        class = "IntervalTier"',
        f'        name = "{name}"',
        "        xmin = 0",
        f"        xmax = {duration:.3f}",
        f"        intervals: size = {len(intervals)}",
    ]
    for i, (start, end, text) in enumerate(intervals, start=1):
        quoted = _one_line(text).replace('"', '""')
        lines += [
            f"        intervals [{i}]:",
            f"            xmin = {start:.3f}",
            f"            xmax = {end:.3f}",
            f'            text = "{quoted}"',
        ]
    return lines


def _lines(lines: Iterable[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _milli(value: float) -> float:
    return round(value, 3)


def _clock(seconds: float, point: str) -> str:
    """
    >>> _clock(3723.5, ",")
    '01:02:03,500'
    """
    total = round(seconds * 1000)
    minutes, milliseconds = divmod(total, 60_000)
    return (
        f"{minutes // 60:02}:{minutes % 60:02}"
        f":{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
    )

"""Transcripts as files: txt, srt, vtt, json, jsonl, tsv, ctm, TextGrid, md and otio.

Each format is a `TranscriptWriter`, which takes segments as they come and gives the text to write
as soon as it is certain; `FORMATS` lists them by file extension. Where each channel of a recording
was transcribed by itself, every format says which one speaks. How subtitles are divided into
cues and lines is in `asr.subtitles`.
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from asr.errors import ConfigError
from asr.files import JSON_ESCAPE, replacing
from asr.subtitles import Cue, CueBuilder, SubtitleLayout, channel_cues
from asr.types import Loss, Segment, Transcript, Unit, Word

PARAGRAPH_SECONDS = 2.0  # a longer pause begins a new paragraph


class TranscriptWriter(Protocol):
    """One transcript in one format: call `begin`, `add` for each segment in order, and `end`.

    What they return, joined, is the file.
    """

    def begin(self) -> str:
        """What comes before all segments."""

    def add(self, segment: Segment) -> str:
        """What is certain once this segment is known."""

    def end(self, transcript: Transcript) -> str:
        """The rest. `transcript` holds the segments that were added."""


def render(
    transcript: Transcript,
    format: str,
    name: str = "recording",
    layout: SubtitleLayout | None = None,
) -> str:
    """The transcript of the recording `name` in one of `FORMATS`, as the text of a file.

    Raises ConfigError for an unknown format.
    """
    writer = writer_for(format)(name, layout or SubtitleLayout(), transcript.by_channel)
    added = [writer.begin(), *map(writer.add, transcript.segments)]
    return "".join([*added, writer.end(transcript)])


def save(
    transcript: Transcript,
    path: str | os.PathLike[str],
    format: str | None = None,
    layout: SubtitleLayout | None = None,
) -> None:
    """Write `path`, which appears at once and whole; its extension is the format unless given.

    Raises ConfigError for an unknown format.
    """
    path = Path(path)
    text = render(transcript, format or path.suffix.removeprefix("."), path.stem, layout)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=JSON_ESCAPE, newline="\n")


def writer_for(format: str) -> MakeWriter:
    """The writer of a format, by its extension in any case; ConfigError if there is none."""
    for known, writer in FORMATS.items():
        if known.lower() == format.lower():
            return writer
    raise ConfigError(f"unknown format {format!r}", f"one of: {', '.join(FORMATS)}")


class _Writer:
    """A writer of nothing, to be refined. `by_channel`: segments are to name their channels."""

    def __init__(self, name: str, layout: SubtitleLayout, by_channel: bool = False):
        self._name, self._by_channel = name, by_channel

    def begin(self) -> str:
        return ""

    def add(self, segment: Segment) -> str:
        return ""

    def end(self, transcript: Transcript) -> str:
        return ""


class TextWriter(_Writer):
    """txt: one line a segment."""

    def add(self, segment: Segment) -> str:
        label = f"{channel_name(segment.channel)}: " if self._by_channel else ""
        return _lines([label + _one_line(segment.text)]) if segment.text else ""


class SubRipWriter(_Writer):
    """srt: SubRip subtitles. Those of several channels are put in order at the end."""

    def __init__(self, name: str, layout: SubtitleLayout, by_channel: bool = False):
        super().__init__(name, layout, by_channel)
        self._layout, self._cues = layout, CueBuilder(layout)
        self._number = 0

    def add(self, segment: Segment) -> str:
        return "" if self._by_channel else self._text(self._cues.add(segment))

    def end(self, transcript: Transcript) -> str:
        if self._by_channel:
            return self._text(channel_cues(transcript, self._layout))
        return self._text(self._cues.end(transcript.duration))

    def _text(self, cues: Iterable[Cue]) -> str:
        text = ""
        for cue in cues:
            self._number += 1
            gap = "\n" if self._number > 1 else ""
            times = f"{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}"
            label = "" if cue.channel is None else f"{channel_name(cue.channel)}: "
            text += f"{gap}{self._number}\n{times}\n{label}{_lines(cue.lines)}"
        return text


class WebVTTWriter(SubRipWriter):
    """vtt: WebVTT (W3C); channels are voices, what the recording has lost is a note."""

    def begin(self) -> str:
        return "WEBVTT\n"

    def end(self, transcript: Transcript) -> str:
        notes = [f"\nNOTE {_named(loss)}\n" for loss in transcript.losses]
        return super().end(transcript) + "".join(notes)

    def _text(self, cues: Iterable[Cue]) -> str:
        return "".join(
            f"\n{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n"
            + ("" if cue.channel is None else f"<v {channel_name(cue.channel)}>")
            + (self._timed(cue) if self._layout.highlight_words else _escaped(_lines(cue.lines)))
            for cue in cues
        )

    @staticmethod
    def _timed(cue: Cue) -> str:
        """The lines of a cue with a time before each word but the first."""
        words, lines = list(cue.words), []
        for line in cue.lines:
            timed, length = [], 0
            while words and length < len(line):
                word = words.pop(0)
                length += len(word.word) + 1
                inside = cue.start < word.start < cue.end
                time = f"<{_clock(word.start, '.')}>" if inside else ""
                timed.append(f"{time}<c>{_escaped(word.word)}</c>")
            lines.append(" ".join(timed))
        return _lines(lines)


class MarkdownWriter(_Writer):
    """md: paragraphs of speech, divided at long pauses, and where another channel speaks."""

    def __init__(self, name: str, layout: SubtitleLayout, by_channel: bool = False):
        super().__init__(name, layout, by_channel)
        self._last: Segment | None = None

    def add(self, segment: Segment) -> str:
        if not segment.text:
            return ""
        last, self._last = self._last, segment
        same = last is not None and last.channel == segment.channel
        if last is not None and same and segment.start - last.end < PARAGRAPH_SECONDS:
            return " " + _one_line(segment.text)
        label = f"**{channel_name(segment.channel)}:** " if self._by_channel else ""
        return ("\n\n" if last else "") + label + _one_line(segment.text)

    def end(self, transcript: Transcript) -> str:
        return "\n" if self._last else ""


class OTIOWriter(_Writer):
    """otio: OpenTimelineIO, which video editors import: a marker for each segment."""

    def end(self, transcript: Transcript) -> str:
        markers = []
        for segment in transcript.segments:
            start, end = round(1000 * segment.start), round(1000 * segment.end)
            label = f"{channel_name(segment.channel)}: " if self._by_channel else ""
            markers.append(
                {
                    "OTIO_SCHEMA": "Marker.2",
                    "name": label + segment.text,
                    "color": "BLUE",
                    "marked_range": {
                        "OTIO_SCHEMA": "TimeRange.1",
                        "start_time": _rational(start),
                        "duration": _rational(end - start),
                    },
                }
            )
        tracks = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [], "markers": markers}
        timeline = {"OTIO_SCHEMA": "Timeline.1", "name": self._name, "tracks": tracks}
        return json.dumps(timeline, ensure_ascii=False, indent=2) + "\n"


def _rational(milliseconds: int) -> dict[str, Any]:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": 1000.0, "value": float(milliseconds)}


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


class JSONWriter(_Writer):
    """json: one object with everything; times in seconds, rounded to milliseconds."""

    def end(self, transcript: Transcript) -> str:
        data = {
            "text": transcript.text,
            "duration": _milli(transcript.duration),
            "model": transcript.model,
            "segments": [_segment_dict(segment) for segment in transcript.segments],
        }
        if transcript.losses:
            data["losses"] = [loss_dict(loss) for loss in transcript.losses]
        if transcript.notices:
            data["notices"] = [*transcript.notices]
        return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


class JSONLinesWriter(_Writer):
    """jsonl: one object a segment and line; then one a loss, known by its key `loss`."""

    def add(self, segment: Segment) -> str:
        return _lines([json.dumps(_segment_dict(segment), ensure_ascii=False)])

    def end(self, transcript: Transcript) -> str:
        lost = [
            {"start": _milli(loss.start), "end": _end(loss), "loss": loss.reason}
            for loss in transcript.losses
        ]
        return _lines(json.dumps(loss, ensure_ascii=False) for loss in lost)


class TSVWriter(_Writer):
    """tsv: tab-separated start, end (seconds) and text, one segment a line; and the channel, where
    each was transcribed by itself."""

    def begin(self) -> str:
        return _lines(["start\tend\ttext" + ("\tchannel" if self._by_channel else "")])

    def add(self, segment: Segment) -> str:
        channel = f"\t{segment.channel}" if self._by_channel else ""
        text = _one_line(segment.text)
        return _lines([f"{segment.start:.3f}\t{segment.end:.3f}\t{text}{channel}"])


class CTMWriter(_Writer):
    """ctm: NIST's time-marked words: recording, channel, start, duration, word, confidence.

    Channels are counted from 1 there. What the recording has lost is a comment.
    """

    def add(self, segment: Segment) -> str:
        recording, channel = self._recording, (segment.channel or 0) + 1
        return _lines(
            f"{recording} {channel} {_milli(w.start):.3f} {_milli(w.end) - _milli(w.start):.3f}"
            f" {w.word} {w.confidence:.3f}"
            for w in segment.words
        )

    def end(self, transcript: Transcript) -> str:
        return _lines(f";; {self._recording} {_named(loss)}" for loss in transcript.losses)

    @property
    def _recording(self) -> str:
        return "_".join(_encodable(self._name).split()) or "recording"


class TextGridWriter(_Writer):
    """TextGrid: Praat's long text format, with a tier of segments, one of words, and one of units
    if there are any."""

    def end(self, transcript: Transcript) -> str:
        spans = self._spans(transcript)
        if transcript.losses:
            spans["losses"] = [
                (loss.start, transcript.duration if loss.end is None else loss.end, loss.reason)
                for loss in transcript.losses
            ]
        ends = [end for tier in spans.values() for _, end, _ in tier]
        # Each takes a millisecond at least.
        most = max(sum(bool(text) for _, _, text in tier) for tier in spans.values())
        duration = max(round(1000 * max([transcript.duration, *ends])), most)
        header = [
            'File type = "ooTextFile"',
            'Object class = "TextGrid"',
            "",
            "xmin = 0",
            f"xmax = {duration / 1000:.3f}",
            "tiers? <exists>",
            f"size = {len(spans)}",
            "item []:",
        ]
        return _lines(
            header
            + [
                line
                for number, (tier, entries) in enumerate(spans.items(), start=1)
                for line in _tier_lines(number, tier, _intervals(entries, duration), duration)
            ]
        )

    def _spans(self, transcript: Transcript) -> dict[str, list[tuple[float, float, str]]]:
        """What is in each tier; every channel has its own where they are apart."""
        spans: dict[str, list[tuple[float, float, str]]] = {}
        channels = sorted({s.channel or 0 for s in transcript.segments})
        for channel in channels if self._by_channel else [None]:
            of = "" if channel is None else f" {channel_name(channel)}"
            segments = [s for s in transcript.segments if channel in (None, s.channel)]
            words = [word for segment in segments for word in segment.words]
            spans[f"segments{of}"] = [(s.start, s.end, s.text) for s in segments]
            spans[f"words{of}"] = [(w.start, w.end, w.word) for w in words]
            if units := [(u.start, u.end, u.symbol) for w in words for u in w.units]:
                spans[f"units{of}"] = units
        return spans or {"segments": [], "words": []}


MakeWriter: TypeAlias = Callable[[str, SubtitleLayout, bool], TranscriptWriter]
FORMATS: dict[str, MakeWriter] = {
    "txt": TextWriter,
    "srt": SubRipWriter,
    "vtt": WebVTTWriter,
    "json": JSONWriter,
    "jsonl": JSONLinesWriter,
    "tsv": TSVWriter,
    "ctm": CTMWriter,
    "TextGrid": TextGridWriter,
    "md": MarkdownWriter,
    "otio": OTIOWriter,
}


def channel_name(channel: int | None) -> str:
    """What text and subtitles call a channel, counted from 0."""
    return f"channel {channel or 0}"


def _segment_dict(segment: Segment) -> dict[str, Any]:
    data: dict[str, Any] = {
        "start": _milli(segment.start),
        "end": _milli(segment.end),
        "text": segment.text,
        "words": [_word_dict(word) for word in segment.words],
    }
    if segment.channel is not None:
        data["channel"] = segment.channel
    return data


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


Interval: TypeAlias = tuple[int, int, str]  # milliseconds


def _intervals(entries: Sequence[tuple[float, float, str]], duration: int) -> list[Interval]:
    """`entries` (s) and the gaps between them, as intervals that cover 0..duration (ms).

    None is empty and none overlap: what has no length, or lies within another, gets a millisecond
    of what is around it.

    >>> _intervals([(0.5, 0.5, "a"), (0.5, 0.5, "b"), (0.5, 1.0, "c")], 1000)
    [(0, 500, ''), (500, 501, 'a'), (501, 502, 'b'), (502, 1000, 'c')]
    """
    placed: list[Interval] = []
    position = 0
    for start, end, text in entries:
        if not text and end <= start:
            continue
        begin = max(round(1000 * start), position)
        position = max(round(1000 * end), begin + 1)
        placed.append((begin, position, text))
    limit = duration
    for k in range(len(placed) - 1, -1, -1):  # back from where they reach beyond the end
        begin, position, text = placed[k]
        position = min(position, limit)
        limit = min(begin, position - 1)
        placed[k] = (limit, position, text)
    covered: list[Interval] = []
    position = 0
    for begin, end, text in placed:
        if begin > position:
            covered.append((position, begin, ""))
        covered.append((begin, end, text))
        position = end
    return [*covered, (position, duration, "")] if duration > position else covered


def _tier_lines(number: int, name: str, intervals: Sequence[Interval], duration: int) -> list[str]:
    lines = [
        f"    item [{number}]:",
        '        class = "IntervalTier"',
        f'        name = "{name}"',
        "        xmin = 0",
        f"        xmax = {duration / 1000:.3f}",
        f"        intervals: size = {len(intervals)}",
    ]
    for i, (start, end, text) in enumerate(intervals, start=1):
        quoted = _one_line(text).replace('"', '""')
        lines += [
            f"        intervals [{i}]:",
            f"            xmin = {start / 1000:.3f}",
            f"            xmax = {end / 1000:.3f}",
            f'            text = "{quoted}"',
        ]
    return lines


def _lines(lines: Iterable[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _encodable(name: str) -> str:
    """A name of a file that is not UTF-8, made so."""
    return name.encode("utf-8", "replace").decode()


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

"""Results, as small frozen dataclasses. Times are seconds from the start of the recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Unit:
    """A character or phone of a word with its time; `confidence` is its probability there."""

    symbol: str
    start: float
    end: float
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word; `confidence` is the estimated probability that it is right (0..1).

    `units` are there where they were asked for: in alignments.
    """

    word: str
    start: float
    end: float
    confidence: float = 1.0
    units: tuple[Unit, ...] = ()


def mean_confidence(words: Sequence[Word]) -> float:
    """0 if there are no words."""
    return sum(word.confidence for word in words) / len(words) if words else 0.0


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of speech between two pauses.

    `channel` is the channel of the recording that it is from, counted from 0; None: they are mixed.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    channel: int | None = None


@dataclass(frozen=True, slots=True)
class Loss:
    """A span of a recording that cannot be decoded: it is damaged or cut off.

    `end` is None where the recording does not tell how much is missing.
    """

    start: float
    end: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said in one recording of `duration` seconds, recognised by the bundle `model`.

    `losses` are the parts of the recording that could not be decoded, in order; `notices` tell what
    else a reader should know, such as a channel that is left out. `by_channel`: each channel was
    transcribed by itself, so segments may overlap, and formats name their channels.
    """

    segments: tuple[Segment, ...]
    duration: float
    model: str = ""
    losses: tuple[Loss, ...] = ()
    notices: tuple[str, ...] = ()
    by_channel: bool = False

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for segment in self.segments for word in segment.words)

    def shifted(self, seconds: float) -> Transcript:
        """All times shifted by this many seconds: those of the recording that this is a part of."""

        def shift(timed: Any) -> Any:
            end = None if timed.end is None else timed.end + seconds
            return replace(timed, start=timed.start + seconds, end=end)

        segments = []
        for segment in self.segments:
            words = tuple(
                replace(shift(word), units=tuple(map(shift, word.units))) for word in segment.words
            )
            segments.append(replace(shift(segment), words=words))
        losses = tuple(map(shift, self.losses))
        return replace(
            self, segments=tuple(segments), duration=self.duration + seconds, losses=losses
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file in the format that its extension names: txt, srt, vtt, json, …

        Raises ConfigError for an unknown extension.
        """
        from asr import writers  # which know the types above

        writers.save(self, path)


@dataclass(frozen=True, slots=True)
class Spike:
    """A moment at which a network with a CTC head saw a symbol: `time` in seconds."""

    time: float
    symbol: str
    probability: float


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """What a live stream has understood.

    `partial`: of the current utterance; it replaces the partial before. `stable` is the
    beginning of `text` that is settled (see docs/streaming.md), and `words` are those of complete
    segments.
    `final`: a whole utterance. `rule` is the endpoint rule (1, 2, 3) that ended it, 0 if it was the
    end of the stream or a flush; rule 1 ends utterances in which nothing was said: their text is
    empty. Times are seconds from the start of the stream. `alternatives` are the best texts of a
    final, the best first, where more than one was asked for. `spikes` are what the network saw
    since the last event.
    """

    kind: Literal["partial", "final"]
    segment: Segment
    stable: str
    rule: int = 0
    alternatives: tuple[Segment, ...] = ()
    spikes: tuple[Spike, ...] = ()

    @property
    def is_final(self) -> bool:
        return self.kind == "final"

    @property
    def text(self) -> str:
        return self.segment.text

    @property
    def words(self) -> tuple[Word, ...]:
        return self.segment.words

    @property
    def start(self) -> float:
        return self.segment.start

    @property
    def end(self) -> float:
        return self.segment.end


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One result of a beam search over one utterance.

    `score` is what the search maximised: acoustic_score + weighted lm_score + bonuses, all natural
    logarithms. `lm_score` is the unweighted language-model log-probability (0 without one).
    """

    text: str
    words: tuple[Word, ...] = ()
    score: float = 0.0
    acoustic_score: float = 0.0
    lm_score: float = 0.0

    def at(self, start: float, end: float) -> Segment:
        """The segment of a recording, `start` to `end` (s), in which this was found.

        The times of its words count from the start of the recording then, and stay inside.
        """
        words = tuple(
            replace(word, start=min(start + word.start, end), end=min(start + word.end, end))
            for word in self.words
        )
        return Segment(start, end, self.text, words)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest. Keys other than the named ones are kept in `extra`.

    With an `offset`, it is the part of the file that begins there and lasts `duration` (seconds);
    without one it is the whole file.
    """

    audio_filepath: str
    duration: float
    text: str
    speaker: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    offset: float | None = None

    @property
    def name(self) -> str:
        """What to call it in a message: its file, and where in the file it begins."""
        if self.offset is None:
            return self.audio_filepath
        return f"{self.audio_filepath} from {self.offset:.2f} s"

"""Vosk's WebSocket protocol: one text reply to each binary message.

C {"config": {"sample_rate": 16000, "words": true, "max_alternatives": 0, "phrase_list": [...]}}
C binary, 16-bit samples          S {"partial": ...} or {"result": [...], "text": ...}
C {"reset": 1}                    S the final result; the stream stays open
C {"eof": 1}                      S the final result; the end
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.types import StreamEvent, Word
from serve.audio_in import AudioFormat
from serve.limits import bad_request
from serve.protocols.base import (
    Action,
    Audio,
    Configure,
    Finish,
    Flush,
    LiveProtocol,
    Message,
    ModelInfo,
    Outcome,
)
from serve.protocols.values import confidence, hotwords, joined, number, parse_object

DEFAULT_RATE = 8000  # Hz, as the reference server's


class VoskProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "vosk"

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        self._words = True
        self._alternatives = 0
        self._partial = ""
        self._eof = False  # the client asked for the last result itself
        self._pending: list[StreamEvent] = []  # finals of an utterance that a new config ended

    def on_open(self) -> Iterable[Action]:
        """See LiveProtocol."""
        return [Configure(format=AudioFormat("s16le", DEFAULT_RATE))]

    def parse(self, message: Message) -> Iterator[Action]:
        """See LiveProtocol."""
        if isinstance(message, bytes):
            yield Audio(message)
            return
        request = parse_object(message)
        if "config" in request:
            yield from self._configure(request["config"])
        if request.get("reset"):
            yield Flush()
        if request.get("eof"):
            self._eof = True
            yield Finish()

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        if isinstance(outcome.action, Configure):  # which has no reply
            self._pending += outcome.finals
            return
        finals, self._pending = [*self._pending, *outcome.finals], []
        ended = any(event.is_final for event in outcome.events) or bool(finals)
        match outcome.action:
            case Audio() if not ended:
                if outcome.events:
                    self._partial = outcome.events[-1].text
                yield {"partial": self._partial}
            case Finish() if not (self._eof or finals):
                pass
            case _:
                yield self._result(finals)

    def _configure(self, config: object) -> Iterator[Action]:
        if not isinstance(config, dict):
            raise bad_request("config is not an object")
        self._words = bool(config.get("words", self._words))
        if "max_alternatives" in config:
            wanted = number(config["max_alternatives"], "max_alternatives", 0, 1000)
            self._alternatives = round(wanted)
        format = phrases = None
        if "sample_rate" in config:
            rate = round(number(config["sample_rate"], "sample_rate", 1, 1e6))
            format = AudioFormat("s16le", rate)
        if "phrase_list" in config:
            phrases = hotwords(config["phrase_list"])
        if format or phrases is not None:
            yield Configure(format=format, hotwords=phrases)

    def _result(self, finals: Sequence[StreamEvent]) -> dict[str, Any]:
        self._partial = ""
        words = [word for event in finals for word in event.words]
        result = {"result": [_word(word) for word in words]} if self._words and words else {}
        if not self._alternatives:
            return {**result, "text": joined(finals)}
        # The search hands out its best hypothesis only: at most one alternative.
        return {
            "alternatives": [
                {"text": joined(finals), "confidence": round(confidence(words), 4), **result}
            ]
        }


def _word(word: Word) -> dict[str, Any]:
    return {
        "conf": round(word.confidence, 4),
        "end": round(word.end, 3),
        "start": round(word.start, 3),
        "word": word.word,
    }

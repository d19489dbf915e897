"""Vosk's WebSocket protocol: one text reply to each binary message.

C {"config": {"sample_rate": 16000, "words": true, "max_alternatives": 0, "phrase_list": [...]}}
C binary, 16-bit samples          S {"partial": ...} or {"result": [...], "text": ...}
C {"reset": 1}                    S the final result; the stream stays open
C {"eof": 1}                      S the final result; the end

A `phrase_list` is a grammar: only its words are recognised; with `[unk]` in it, all else becomes
`[unk]`. Another `model` is not loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.types import StreamEvent, Word, mean_confidence
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
from serve.protocols.values import hotwords, joined, number, parse_object

MAX_ALTERNATIVES = 20
DEFAULT_RATE = 8000  # Hz, as the reference server's


class VoskProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "vosk"

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        self._words = True
        self._alternatives = 0  # 0: results have one text, and no list
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
        format = phrases = nbest = None
        if "max_alternatives" in config:
            wanted = round(number(config["max_alternatives"], "max_alternatives", 0, 1000))
            nbest = max(1, min(wanted, MAX_ALTERNATIVES))
            if nbest == max(1, self._alternatives):
                nbest = None
            self._alternatives = min(wanted, MAX_ALTERNATIVES)
        if "sample_rate" in config:
            rate = round(number(config["sample_rate"], "sample_rate", 1, 1e6))
            format = AudioFormat("s16le", rate)
        if "phrase_list" in config:
            phrases = _phrases(config["phrase_list"])
        if format or phrases is not None or nbest:
            grammar = phrases is not None
            yield Configure(format=format, hotwords=phrases, restricts=grammar, nbest=nbest)

    def _result(self, finals: Sequence[StreamEvent]) -> dict[str, Any]:
        self._partial = ""
        words = [word for event in finals for word in event.words]
        result = {"result": [_word(word) for word in words]} if self._words and words else {}
        if not self._alternatives:
            return {**result, "text": joined(finals)}
        if len(finals) != 1 or not finals[0].alternatives:
            return {"alternatives": [self._alternative(joined(finals), words)]}
        ranked = finals[0].alternatives[: self._alternatives]
        return {"alternatives": [self._alternative(one.text, one.words) for one in ranked]}

    def _alternative(self, text: str, words: Sequence[Word]) -> dict[str, Any]:
        result = {"result": [_word(word) for word in words]} if self._words and words else {}
        return {"text": text, "confidence": round(mean_confidence(words), 4), **result}


def _phrases(value: object) -> tuple[str, ...]:
    """A list of phrases, or one as a JSON string, as Vosk's recogniser itself takes it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise bad_request(f"phrase_list is no list of phrases: {error}") from None
    return hotwords(value)


def _word(word: Word) -> dict[str, Any]:
    return {
        "conf": round(word.confidence, 4),
        "end": round(word.end, 3),
        "start": round(word.start, 3),
        "word": word.word,
    }

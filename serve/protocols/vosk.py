"""Vosk's WebSocket protocol: one text reply to each binary message.

C {"config": {"sample_rate": 16000, "words": true, "max_alternatives": 0, "phrase_list": [...]}}
C binary, 16-bit samples          S {"partial": ...} or {"result": [...], "text": ...}
C {"reset": 1}                    S the final result; the stream stays open
C {"eof": 1}                      S the final result; the end
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.types import StreamEvent, Word
from serve.audio_in import open_input
from serve.hub import Hub
from serve.limits import bad_request
from serve.protocols._values import confidence, finals, hotwords, joined, number, parse_object
from serve.session import Channel, Conversation

DEFAULT_RATE = 8000  # Hz, as the reference server's


class VoskConversation(Conversation):
    """One client."""

    name: ClassVar[str] = "vosk"

    def __init__(self, hub: Hub, channel: Channel, query: QueryParams):
        super().__init__(hub, channel, query)
        self._rate = DEFAULT_RATE
        self._words = True
        self._alternatives = 0
        self._partial = ""
        self._answered = False  # the client asked for the last result itself

    async def handle(self, message: Any) -> bool:
        """See Conversation."""
        if isinstance(message, bytes):
            await self.send(self._reply(await self._hear(message)))
            return True
        request = parse_object(message)
        if "config" in request:
            self._configure(request["config"])
        if request.get("reset"):
            await self.send(self._result(await self.flush()))
        self._answered = self._answered or bool(request.get("eof"))
        return not self._answered

    async def finish(self) -> None:
        """See Conversation."""
        events = await self.rest()
        if self._answered or finals(events):
            await self.send(self._result(events))

    async def _hear(self, data: bytes) -> list[StreamEvent]:
        if self.input is None:
            limit = self.hub.settings.max_session_seconds
            self.input = open_input("s16le", self._rate, 1, limit)
        return await self.hear(data)

    def _configure(self, config: object) -> None:
        if not isinstance(config, dict):
            raise bad_request("config is not an object")
        if "sample_rate" in config:
            rate = round(number(config["sample_rate"], "sample_rate", 1, 1e6))
            if self.started and rate != self._rate:
                raise bad_request("the sample rate cannot change once sound has come")
            self._rate = rate
        self._words = bool(config.get("words", self._words))
        if "max_alternatives" in config:
            wanted = number(config["max_alternatives"], "max_alternatives", 0, 1000)
            self._alternatives = round(wanted)
        if "phrase_list" in config and not self.started:
            self.hotwords = hotwords(config["phrase_list"])

    def _reply(self, events: Sequence[StreamEvent]) -> dict[str, Any]:
        """A result as soon as an utterance has ended, else what is understood so far."""
        for event in events:
            self._partial = "" if event.is_final else event.text
        if any(event.is_final for event in events):
            return self._result(events)
        return {"partial": self._partial}

    def _result(self, events: Iterable[StreamEvent]) -> dict[str, Any]:
        self._partial = ""
        said = finals(events)
        words = [word for event in said for word in event.words]
        result = {"result": [_word(word) for word in words]} if self._words and words else {}
        if not self._alternatives:
            return {**result, "text": joined(said)}
        # The search hands out its best hypothesis only: at most one alternative.
        return {
            "alternatives": [
                {"text": joined(said), "confidence": round(confidence(words), 4), **result}
            ]
        }


def _word(word: Word) -> dict[str, Any]:
    return {
        "conf": round(word.confidence, 4),
        "end": round(word.end, 3),
        "start": round(word.start, 3),
        "word": word.word,
    }

"""Our own WebSocket protocol: binary sound in, JSON events out.

The query: `encoding` (s16le, f32le, mulaw, alaw, container), `sample_rate`, `channels`, `hotword`
(repeated), `silence_ms` (that ends an utterance).

    S {"type": "ready", "model", "language"}
    C binary, any size
    S {"type": "partial", "text", "stable", "start", "end", ...}   stable: will not change any more
    S {"type": "final", "text", "words": [{"word", "start", "end", "confidence"}], "rule", ...}
    C {"type": "flush"}    the utterance ends here          C {"type": "reset"}  forget it
    C {"type": "finish"}   S the last final, {"type": "done"}, the end
    S {"type": "error", "reason", "message"}, the end

Times are seconds of the stream. Every event has `heard`, the seconds of sound taken in by then, and
`real_time_factor`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.stream import EndpointConfig
from asr.types import StreamEvent
from serve.audio_in import MOST_CHANNELS, open_input
from serve.hub import Hub
from serve.limits import Refused, bad_request
from serve.protocols._values import confidence, hotwords, number, parse_object, silence
from serve.session import Channel, Conversation


class NativeConversation(Conversation):
    """One client."""

    name: ClassVar[str] = "native"
    joins: ClassVar[bool] = True

    def __init__(self, hub: Hub, channel: Channel, query: QueryParams):
        super().__init__(hub, channel, query)
        self.input = open_input(
            query.get("encoding", "s16le"),
            round(number(query.get("sample_rate", 16_000), "sample_rate", 1, 1e6)),
            round(number(query.get("channels", 1), "channels", 1, MOST_CHANNELS)),
            hub.settings.max_session_seconds,
        )
        self.hotwords = hotwords(query.getlist("hotword"))
        if "silence_ms" in query:
            self.endpoint = EndpointConfig(
                rule2_min_trailing_silence=silence(query["silence_ms"], "silence_ms")
            )

    async def greet(self) -> None:
        """See Conversation."""
        await self.send({"type": "ready", "model": self.hub.model, "language": self.hub.language})

    async def handle(self, message: Any) -> bool:
        """See Conversation."""
        if isinstance(message, bytes):
            await self._tell(await self.hear(message))
            return True
        match parse_object(message).get("type"):
            case "finish":
                return False
            case "flush":
                await self._tell(await self.flush())
            case "reset":
                self.forget()
            case other:
                raise bad_request(f"unknown type {other!r:.50}: one of finish, flush, reset")
        return True

    async def finish(self) -> None:
        """See Conversation."""
        await self._tell(await self.rest())
        await self.send({"type": "done", **self._progress()})

    async def complain(self, refused: Refused) -> None:
        """See Conversation."""
        await self.send({"type": "error", "reason": refused.reason, "message": refused.message})

    async def _tell(self, events: Iterable[StreamEvent]) -> None:
        for event in events:
            if not event.is_final:
                await self.send(self._event(event) | {"stable": event.stable})
            elif event.text:
                await self.send(self._event(event) | {"rule": event.rule})

    def _event(self, event: StreamEvent) -> dict[str, Any]:
        return {
            "type": event.kind,
            "text": event.text,
            "start": round(event.start, 3),
            "end": round(event.end, 3),
            "confidence": round(confidence(event.words), 4),
            "words": [
                {
                    "word": word.word,
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "confidence": round(word.confidence, 4),
                }
                for word in event.words
            ],
            **self._progress(),
        }

    def _progress(self) -> dict[str, float]:
        return {
            "heard": round(self.heard, 3),
            "real_time_factor": round(self.real_time_factor, 4),
        }

"""Deepgram's live protocol: WS /v1/listen?encoding=linear16&sample_rate=16000&interim_results=true.

    C binary; {"type": "KeepAlive"}, {"type": "Finalize"}, {"type": "CloseStream"}
    S Results, SpeechStarted, UtteranceEnd, Metadata, Error

Without `encoding`, the sound is in a container, as with Deepgram. Options that change the looks of
a text (`punctuate`, `smart_format`, …) are none of this recogniser's: it writes plain words.
"""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.stream import EndpointConfig
from asr.types import StreamEvent
from serve.audio_in import MOST_CHANNELS, open_input
from serve.hub import Hub
from serve.limits import Refused, bad_request
from serve.protocols._values import (
    check_language,
    confidence,
    flag,
    hotwords,
    number,
    parse_object,
    silence,
)
from serve.session import Channel, Conversation

NEVER = float("inf")
# Their names of encodings; the last three come in a container.
_ENCODINGS = {
    "linear16": "s16le",
    "linear32": "f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
    "opus": "container",
    "ogg-opus": "container",
    "flac": "container",
}


class DeepgramConversation(Conversation):
    """One client."""

    name: ClassVar[str] = "deepgram"
    joins: ClassVar[bool] = True
    idle_seconds: ClassVar[float] = 10.0

    def __init__(self, hub: Hub, channel: Channel, query: QueryParams):
        super().__init__(hub, channel, query)
        encoding = query.get("encoding")
        if encoding is not None and encoding not in _ENCODINGS:
            raise bad_request(f"encoding {encoding!r:.20}: one of {', '.join(_ENCODINGS)}")
        kind = "container" if encoding is None else _ENCODINGS[encoding]
        if kind != "container" and "sample_rate" not in query:
            raise bad_request("raw sound needs its sample_rate")
        if flag(query.get("multichannel")):
            raise bad_request("channels are mixed here: leave multichannel out")
        if query.get("language") != "multi":
            check_language(query.get("language"), hub.language)
        self._channels = round(number(query.get("channels", 1), "channels", 1, MOST_CHANNELS))
        self.input = open_input(
            kind,
            round(number(query.get("sample_rate", 16_000), "sample_rate", 1, 1e6)),
            self._channels,
            hub.settings.max_session_seconds,
        )
        # `keywords` are WORD or WORD:INTENSIFIER
        words = [word.partition(":")[0] for word in query.getlist("keywords")]
        self.hotwords = hotwords(query.getlist("keyterm") + words)
        self.endpoint = _endpoint(query.get("endpointing"))
        self._interim = flag(query.get("interim_results"))
        self._vad_events = flag(query.get("vad_events"))
        self._utterance_end = "utterance_end_ms" in query
        self._request_id = str(uuid.uuid4())
        self._digest = hashlib.sha256()
        self._speaking = False
        self._told = 0.0  # seconds for which there are finals

    async def handle(self, message: Any) -> bool:
        """See Conversation."""
        if isinstance(message, bytes):
            if not message:  # their clients' old way to say CloseStream
                return False
            self._digest.update(message)
            await self._tell(await self.hear(message))
            return True
        match parse_object(message).get("type"):
            case "KeepAlive":
                pass
            case "Finalize":
                events = await self.flush()
                await self._tell(events, from_finalize=True)
                if not any(event.is_final for event in events):
                    await self.send(self._results(None, from_finalize=True))
            case "CloseStream":
                return False
            case other:
                raise bad_request(f"unknown type {other!r:.50}")
        return True

    async def finish(self) -> None:
        """See Conversation."""
        await self._tell(await self.rest())
        await self.send(
            {
                "type": "Metadata",
                "transaction_key": "deprecated",
                "request_id": self._request_id,
                "sha256": self._digest.hexdigest(),
                "created": datetime.datetime.now(datetime.UTC).isoformat(),
                "duration": round(self.heard, 4),
                "channels": self._channels,
            }
        )

    async def complain(self, refused: Refused) -> None:
        """See Conversation."""
        await self.send(
            {
                "type": "Error",
                "variant": refused.reason,
                "description": refused.message,
                "message": refused.message,
            }
        )

    async def _tell(self, events: Iterable[StreamEvent], from_finalize: bool = False) -> None:
        for event in events:
            if not event.text:
                continue
            if not self._speaking and self._vad_events:
                await self.send(
                    {"type": "SpeechStarted", "channel": [0], "timestamp": round(event.start, 3)}
                )
            self._speaking = not event.is_final
            if event.is_final or self._interim:
                await self.send(self._results(event, from_finalize))
            if event.is_final and self._utterance_end:
                last = event.words[-1].end if event.words else event.end
                await self.send(
                    {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": round(last, 3)}
                )

    def _results(self, event: StreamEvent | None, from_finalize: bool) -> dict[str, Any]:
        """What one event says; None: nothing was said since the last final."""
        start = min(self._told, event.start) if event else self._told
        end = event.end if event else self.heard
        is_final = event is None or event.is_final
        if is_final:
            self._told = end
        words = event.words if event else ()
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": round(end - start, 3),
            "start": round(start, 3),
            "is_final": is_final,
            "speech_final": event is not None and event.is_final and event.rule > 0,
            "from_finalize": from_finalize,
            "channel": {
                "alternatives": [
                    {
                        "transcript": event.text if event else "",
                        "confidence": round(confidence(words), 4),
                        "words": [
                            {
                                "word": word.word,
                                "start": round(word.start, 3),
                                "end": round(word.end, 3),
                                "confidence": round(word.confidence, 4),
                            }
                            for word in words
                        ],
                    }
                ]
            },
            "metadata": {
                "request_id": self._request_id,
                "model_info": {"name": self.hub.model, "version": "1", "arch": "blstm-ctc"},
                "model_uuid": self.hub.model,
            },
        }


def _endpoint(value: str | None) -> EndpointConfig:
    """Their `endpointing`: milliseconds of silence, or false for none."""
    if value is None or value.lower() == "true":
        return EndpointConfig()
    seconds = NEVER if value.lower() == "false" else silence(value, "endpointing")
    return replace(EndpointConfig(), rule2_min_trailing_silence=seconds)

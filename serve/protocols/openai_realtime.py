"""OpenAI's Realtime protocol, transcription only: WS /v1/realtime?intent=transcription.

Utterances are parted by the server (`turn_detection`) or by the client (`null`, and
`input_audio_buffer.commit`). A client's mistake is answered by an `error` event; the stream goes
on.
"""

from __future__ import annotations

import base64
import binascii
import copy
import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.stream import EndpointConfig
from asr.types import StreamEvent
from serve.audio_in import open_input
from serve.hub import Hub
from serve.limits import FAULT, Refused, bad_request
from serve.protocols._values import check_language, logprobs, number, parse_object, silence
from serve.session import Channel, Conversation

DEFAULT_RATE = 24_000  # Hz
MOST_APPENDED = 15 << 20  # bytes of base64
_ENCODINGS = {"audio/pcm": "s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_LOGPROBS = "item.input_audio_transcription.logprobs"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"
_VAD = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
}


class RealtimeConversation(Conversation):
    """One client."""

    name: ClassVar[str] = "openai_realtime"
    most_message_bytes: ClassVar[int] = MOST_APPENDED + (64 << 10)

    def __init__(self, hub: Hub, channel: Channel, query: QueryParams):
        super().__init__(hub, channel, query)
        if query.get("intent", "transcription") != "transcription":
            raise bad_request("only intent=transcription is spoken here")
        self._session: dict[str, Any] = {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": _name("sess"),
            "include": None,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": DEFAULT_RATE},
                    "transcription": {"model": query.get("model", hub.model)},
                    "noise_reduction": None,
                    "turn_detection": dict(_VAD),
                }
            },
        }
        self._item = _name("item")
        self._previous: str | None = None
        self._emitted = ""  # of the transcript of this item
        self._events: list[StreamEvent] = []  # its finals, where the client parts utterances
        self._speaking = False
        self._committed = 0.0  # seconds heard when the last item ended
        self._offset = 0.0  # seconds heard when the stream began anew
        self.endpoint = _endpoint(_VAD)

    async def greet(self) -> None:
        """See Conversation."""
        await self._say("session.created", session=self._session)

    async def handle(self, message: Any) -> bool:
        """See Conversation."""
        request: dict[str, Any] = {}
        try:
            request = parse_object(message)
            await self._handle(request)
        except Refused as refused:
            if refused.reason != "bad_request":
                raise
            await self._error("invalid_request_error", refused, request.get("event_id"))
        return True

    async def finish(self) -> None:
        """See Conversation."""
        await self._tell(await self.rest())
        if self._events:
            await self._complete()

    async def complain(self, refused: Refused) -> None:
        """See Conversation."""
        kind = "server_error" if refused.code == FAULT else "invalid_request_error"
        await self._error(kind, refused, None)

    @property
    def _parts(self) -> bool:
        """The server tells where utterances end."""
        return self._session["audio"]["input"]["turn_detection"] is not None

    async def _handle(self, request: dict[str, Any]) -> None:
        match request.get("type"):
            case "session.update":
                self._update(request.get("session"))
                await self._say("session.updated", session=self._session)
            case "input_audio_buffer.append":
                await self._append(request.get("audio"))
            case "input_audio_buffer.commit":
                await self._commit()
            case "input_audio_buffer.clear":
                self._clear()
                await self._say("input_audio_buffer.cleared")
            case other:
                raise bad_request(f"unknown or unsupported event type {other!r:.60}")

    async def _append(self, audio: object) -> None:
        if not isinstance(audio, str):
            raise bad_request("audio is missing")
        try:
            data = base64.b64decode(audio, validate=True)
        except (binascii.Error, ValueError) as error:
            raise bad_request(f"audio is not base64: {error}") from None
        if self.input is None:
            encoding, rate = _format(self._session["audio"]["input"]["format"])
            self.input = open_input(encoding, rate, 1, self.hub.settings.max_session_seconds)
        await self._tell(await self.hear(data))

    async def _commit(self) -> None:
        if self.heard <= self._committed:
            raise bad_request("the buffer is empty: append sound before the commit")
        before = self._item
        await self._tell(await self.flush())
        if self._item == before:  # the flush has not ended it by itself
            await self._complete()

    def _clear(self) -> None:
        self.forget()
        self._offset = self._committed = self.heard
        self._emitted, self._events, self._speaking = "", [], False

    def _update(self, changes: object) -> None:
        """Take over the settings of a session that are known here; the others are checked."""
        if not isinstance(changes, dict):
            raise bad_request("session is missing")
        if changes.get("type", "transcription") != "transcription":
            raise bad_request("only sessions of type 'transcription' are held here")
        merged = copy.deepcopy(self._session)
        _merge(merged, changes)
        try:
            new = {key: merged["audio"]["input"][key] for key in self._session["audio"]["input"]}
        except (KeyError, TypeError):
            raise bad_request("session.audio.input is not an object") from None
        old = self._session["audio"]["input"]
        encoding, rate = _format(new["format"])
        if self.input is not None and (encoding, rate) != _format(old["format"]):
            raise bad_request("the format cannot change once sound has come")
        if not isinstance(new["transcription"], dict):
            raise bad_request("transcription is not an object")
        check_language(new["transcription"].get("language"), self.hub.language)
        endpoint = _endpoint(new["turn_detection"])
        if self.started and endpoint != self.endpoint:
            raise bad_request("turn_detection cannot change once sound has come")
        self.endpoint = endpoint
        self._session = merged

    async def _tell(self, events: Iterable[StreamEvent]) -> None:
        for event in events:
            if not event.text:
                continue
            if self._parts and not self._speaking:
                self._speaking = True
                await self._say(
                    "input_audio_buffer.speech_started",
                    audio_start_ms=self._milliseconds(event.start),
                    item_id=self._item,
                )
            if not event.is_final:
                await self._delta(" ".join([*(e.text for e in self._events), event.stable]))
                continue
            self._events.append(event)
            if self._parts:
                await self._say(
                    "input_audio_buffer.speech_stopped",
                    audio_end_ms=self._milliseconds(event.end),
                    item_id=self._item,
                )
                await self._complete()

    async def _complete(self) -> None:
        """The item ends: what was said in it."""
        transcript = " ".join(event.text for event in self._events)
        await self._say(
            "input_audio_buffer.committed", item_id=self._item, previous_item_id=self._previous
        )
        await self._delta(transcript)
        words = [word for event in self._events for word in event.words]
        wanted = _LOGPROBS in (self._session["include"] or ())
        await self._say(
            f"{_TRANSCRIPTION}.completed",
            item_id=self._item,
            content_index=0,
            transcript=transcript,
            usage={"type": "duration", "seconds": round(self.heard - self._committed, 3)},
            **({"logprobs": logprobs(words)} if wanted else {}),
        )
        self._committed = self.heard
        self._previous, self._item = self._item, _name("item")
        self._emitted, self._events, self._speaking = "", [], False

    async def _delta(self, text: str) -> None:
        """What `text` has more than the deltas so far."""
        if text.startswith(self._emitted) and text != self._emitted:
            delta = text[len(self._emitted) :]
            self._emitted = text
            await self._say(
                f"{_TRANSCRIPTION}.delta", item_id=self._item, content_index=0, delta=delta
            )

    async def _error(self, kind: str, refused: Refused, event_id: object) -> None:
        await self._say(
            "error",
            error={
                "type": kind,
                "code": refused.reason,
                "message": refused.message,
                "param": None,
                "event_id": event_id if isinstance(event_id, str) else None,
            },
        )

    async def _say(self, kind: str, **content: Any) -> None:
        await self.send({"type": kind, "event_id": _name("event"), **content})

    def _milliseconds(self, seconds: float) -> int:
        return round((self._offset + seconds) * 1000)


def _name(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:21]}"


def _merge(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Objects are merged, everything else is replaced."""
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict) and key != "format":
            _merge(old[key], value)
        else:
            old[key] = value


def _format(value: object) -> tuple[str, int]:
    """Encoding and rate of {"type": "audio/pcm", "rate": 24000}, or of the type alone."""
    kind = value.get("type") if isinstance(value, dict) else value
    if kind not in _ENCODINGS:
        raise bad_request(f"format {kind!r:.30}: one of {', '.join(_ENCODINGS)}")
    if kind != "audio/pcm":
        return _ENCODINGS[kind], 8000
    rate = value.get("rate", DEFAULT_RATE) if isinstance(value, dict) else DEFAULT_RATE
    return "s16le", round(number(rate, "rate", 1000, 768_000))


def _endpoint(turn_detection: object) -> EndpointConfig:
    if turn_detection is None:
        return EndpointConfig()
    if not isinstance(turn_detection, dict):
        raise bad_request("turn_detection is neither an object nor null")
    if turn_detection.get("type", "server_vad") not in ("server_vad", "semantic_vad"):
        raise bad_request(f"turn_detection {turn_detection.get('type')!r:.30} is not known")
    wanted = turn_detection.get("silence_duration_ms", _VAD["silence_duration_ms"])
    return EndpointConfig(
        rule2_min_trailing_silence=silence(wanted, "turn_detection.silence_duration_ms")
    )

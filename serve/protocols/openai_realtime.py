"""OpenAI's Realtime protocol, transcription only: WS /v1/realtime?intent=transcription.

Utterances end where the server finds a pause (`turn_detection`) or where the client says so
(`null`, and `input_audio_buffer.commit`). A client's mistake is answered by an `error` event; the
stream goes on.
"""

from __future__ import annotations

import base64
import binascii
import copy
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.stream import EndpointConfig
from asr.types import StreamEvent
from serve.audio_in import AudioFormat
from serve.limits import Refused, bad_request
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
    Reply,
    Reset,
)
from serve.protocols.values import check_language, joined, logprobs, number, parse_object, silence

DEFAULT_RATE = 24_000  # Hz
MAX_SETTING_LENGTH = 4000  # characters: of a prompt
MAX_APPENDED_BYTES = 15 << 20  # of base64
_ENCODINGS = {"audio/pcm": "s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_LOGPROBS = "item.input_audio_transcription.logprobs"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"
# The settings that are kept and told back.
_KNOWN = {
    "format": frozenset({"type", "rate"}),
    "transcription": frozenset({"model", "language", "prompt"}),
    "noise_reduction": frozenset({"type"}),
    "turn_detection": frozenset(
        {"type", "threshold", "prefix_padding_ms", "silence_duration_ms", "eagerness"}
    ),
}
_VAD = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 500,
}


class RealtimeProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "openai_realtime"
    max_message_bytes: ClassVar[int] = MAX_APPENDED_BYTES + (64 << 10)

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
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
                    "transcription": {"model": query.get("model", model.name)},
                    "noise_reduction": None,
                    "turn_detection": dict(_VAD),
                }
            },
        }
        self._settings = self._configuration()
        self._item = _name("item")
        self._previous: str | None = None
        self._sent = ""  # of the transcript of this item, as deltas
        self._finals: list[StreamEvent] = []  # of this item
        self._speaking = False
        self._committed = 0.0  # seconds of audio when the last item ended
        self._duration = 0.0  # seconds of audio so far

    def on_open(self) -> Iterable[Action]:
        """See LiveProtocol."""
        return [self._settings, self._reply("session.created", session=self._session)]

    def parse(self, message: Message) -> Iterable[Action]:
        """See LiveProtocol; mistakes are answered."""
        request: dict[str, Any] = {}
        try:
            request = parse_object(message)
            return list(self._parse(request))
        except Refused as refused:
            if refused.reason != "bad_request":
                raise
            return [Reply(self._error("invalid_request_error", refused, request.get("event_id")))]

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        self._duration = outcome.duration
        item = self._item
        for event in outcome.events:
            if event.text:
                yield from self._render_event(event)
        match outcome.action:
            case Flush() if self._item == item:  # it has not ended by itself
                yield from self._complete()
            case Reset():
                self._committed = outcome.duration
                self._sent, self._finals, self._speaking = "", [], False
                yield self._event("input_audio_buffer.cleared")
            case Configure() | Finish() if self._finals:
                yield from self._complete()

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        kind = "server_error" if refused.status >= 500 else "invalid_request_error"
        return [self._error(kind, refused, None)]

    @property
    def _detects_turns(self) -> bool:
        """The server finds where utterances end."""
        return self._session["audio"]["input"]["turn_detection"] is not None

    def _parse(self, request: dict[str, Any]) -> Iterator[Action]:
        match request.get("type"):
            case "session.update":
                self._update(request.get("session"))
                settings = self._configuration()
                if settings != self._settings:
                    self._settings = settings
                    yield settings
                yield self._reply("session.updated", session=self._session)
            case "input_audio_buffer.append":
                yield Audio(_decoded(request.get("audio")))
            case "input_audio_buffer.commit":
                if self._duration <= self._committed:
                    raise bad_request("the buffer is empty: append audio before the commit")
                yield Flush()
            case "input_audio_buffer.clear":
                yield Reset()
            case other:
                raise bad_request(f"unknown or unsupported event type {other!r:.60}")

    def _configuration(self) -> Configure:
        """The session's settings, checked."""
        settings = self._session["audio"]["input"]
        return Configure(
            format=_format(settings["format"]), endpoint=_endpoint(settings["turn_detection"])
        )

    def _update(self, changes: object) -> None:
        """Take over settings. Raises Refused, and changes none, if one of them cannot be met."""
        if not isinstance(changes, dict):
            raise bad_request("session is missing")
        if changes.get("type", "transcription") != "transcription":
            raise bad_request("only sessions of type 'transcription' are held here")
        merged = copy.deepcopy(self._session)
        if "include" in changes:
            merged["include"] = _include(changes["include"])
        new = merged["audio"]["input"]
        wanted = _object(_object(changes.get("audio"), "audio").get("input"), "audio.input")
        for group, keys in _KNOWN.items():
            if group in wanted:
                new[group] = _known(wanted[group], keys, new[group], group)
        _format(new["format"])
        _endpoint(new["turn_detection"])
        if not isinstance(new["transcription"], dict):
            raise bad_request("transcription is not an object")
        check_language(new["transcription"].get("language"), self.model.language)
        self._session = merged

    def _render_event(self, event: StreamEvent) -> Iterator[Message]:
        if self._detects_turns and not self._speaking:
            self._speaking = True
            yield self._event(
                "input_audio_buffer.speech_started",
                audio_start_ms=round(event.start * 1000),
                item_id=self._item,
            )
        if not event.is_final:
            said = [*(final.text for final in self._finals), event.stable]
            yield from self._delta(" ".join(said))
            return
        self._finals.append(event)
        if self._detects_turns:
            yield self._event(
                "input_audio_buffer.speech_stopped",
                audio_end_ms=round(event.end * 1000),
                item_id=self._item,
            )
            yield from self._complete()

    def _complete(self) -> Iterator[Message]:
        """The item ends: its transcript."""
        transcript = joined(self._finals)
        yield self._event(
            "input_audio_buffer.committed", item_id=self._item, previous_item_id=self._previous
        )
        yield from self._delta(transcript)
        words = [word for event in self._finals for word in event.words]
        wanted = _LOGPROBS in (self._session["include"] or ())
        yield self._event(
            f"{_TRANSCRIPTION}.completed",
            item_id=self._item,
            content_index=0,
            transcript=transcript,
            usage={"type": "duration", "seconds": round(self._duration - self._committed, 3)},
            **({"logprobs": logprobs(words)} if wanted else {}),
        )
        self._committed = self._duration
        self._previous, self._item = self._item, _name("item")
        self._sent, self._finals, self._speaking = "", [], False

    def _delta(self, text: str) -> Iterator[Message]:
        """What `text` has beyond the deltas so far."""
        if text.startswith(self._sent) and text != self._sent:
            delta = text[len(self._sent) :]
            self._sent = text
            yield self._event(
                f"{_TRANSCRIPTION}.delta", item_id=self._item, content_index=0, delta=delta
            )

    def _error(self, kind: str, refused: Refused, event_id: object) -> dict[str, Any]:
        return self._event(
            "error",
            error={
                "type": kind,
                "code": refused.reason,
                "message": refused.message,
                "param": None,
                "event_id": event_id if isinstance(event_id, str) else None,
            },
        )

    def _reply(self, kind: str, **content: Any) -> Reply:
        return Reply(self._event(kind, **copy.deepcopy(content)))

    def _event(self, kind: str, **content: Any) -> dict[str, Any]:
        return {"type": kind, "event_id": _name("event"), **content}


def _name(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:21]}"


def _object(value: object, name: str) -> dict[str, Any]:
    """An object, or an empty one for what is not there."""
    if not isinstance(value, dict | None):
        raise bad_request(f"session.{name} is not an object")
    return value or {}


def _known(value: object, keys: frozenset[str], old: object, group: str) -> object:
    """A group of settings with what is new in it; what nobody knows is neither kept nor echoed."""
    if value is None:
        return None
    if group == "format":
        return value if isinstance(value, str) else _picked(_object(value, group), keys)
    base = old if isinstance(old, dict) else {}
    return {**base, **_picked(_object(value, group), keys)}


def _picked(value: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    picked = {key: value[key] for key in value if key in keys}
    for key, part in picked.items():
        if not isinstance(part, str | int | float | None) or len(str(part)) > MAX_SETTING_LENGTH:
            raise bad_request(f"{key} is no short text or number")
    return picked


def _include(value: object) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(item == _LOGPROBS for item in value):
        raise bad_request(f"include can hold {_LOGPROBS!r} only")
    return value[:1]


def _decoded(audio: object) -> bytes:
    if not isinstance(audio, str):
        raise bad_request("audio is missing")
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise bad_request(f"audio is not base64: {error}") from None


def _format(value: object) -> AudioFormat:
    """From {"type": "audio/pcm", "rate": 24000}, or from the type alone."""
    kind = value.get("type") if isinstance(value, dict) else value
    if not isinstance(kind, str) or kind not in _ENCODINGS:
        raise bad_request(f"format {kind!r:.30}: one of {', '.join(_ENCODINGS)}")
    if kind != "audio/pcm":
        return AudioFormat(_ENCODINGS[kind], 8000)
    rate = value.get("rate", DEFAULT_RATE) if isinstance(value, dict) else DEFAULT_RATE
    return AudioFormat("s16le", round(number(rate, "rate", 1000, 768_000)))


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

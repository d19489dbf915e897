"""OpenAI's Realtime protocol, transcription only: WS /v1/realtime?intent=transcription.

Utterances end where the server finds a pause (`turn_detection`) or where the client says so
(`null`, and `input_audio_buffer.commit`). A client's mistake is answered by an `error` event; the
stream continues.

Sessions are described as today (`session.audio.input.format`), or as in the beta
(`transcription_session.update`, or a flat `session.update`: `input_audio_format`, …); the answer
has the shape of the question. Settings that cannot be met are null in it.
"""

from __future__ import annotations

import base64
import binascii
import copy
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.stream import EndpointConfig
from asr.types import StreamEvent
from serve.audio_in import AudioFormat
from serve.client_secrets import ClientSecrets
from serve.limits import POLICY, Refused, bad_request
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
from serve.protocols.languages import check_language, check_languages
from serve.protocols.values import (
    SettledWords,
    joined,
    logprobs,
    number,
    parse_object,
    prompt_hotwords,
    silence,
)

DEFAULT_RATE = 24_000  # Hz
SECRET_SECONDS = 600  # that a client's secret is valid, unless told otherwise
MAX_SETTING_LENGTH = 4000  # characters: of a prompt
MAX_KEYWORDS = 1000
MAX_APPENDED_BYTES = 15 << 20  # of base64
_ENCODINGS = {"audio/pcm": "s16le", "audio/pcmu": "mulaw", "audio/pcma": "alaw"}
_BETA_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}
# Names of the beta's flat settings, and those of today's groups.
_BETA = {
    "input_audio_format": "format",
    "input_audio_transcription": "transcription",
    "input_audio_noise_reduction": "noise_reduction",
    "turn_detection": "turn_detection",
}
_LOGPROBS = "item.input_audio_transcription.logprobs"
_TRANSCRIPTION = "conversation.item.input_audio_transcription"
# The settings that are kept and told back.
_KNOWN = {
    "format": frozenset({"type", "rate"}),
    "transcription": frozenset({"model", "language", "languages", "prompt", "keywords"}),
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
_EAGERNESS = {"low": 1600, "medium": 1000, "auto": 1000, "high": 500}  # ms of silence
_EVENTS = (
    *("session.update", "transcription_session.update", "input_audio_buffer.append"),
    *("input_audio_buffer.commit", "input_audio_buffer.clear"),
)


class RealtimeSession:
    """The settings of a session, as they are sent back.

    Raises Refused for what cannot be met, and changes nothing then.
    """

    def __init__(self, model: ModelInfo, name: str | None = None):
        self._model = model
        self.content: dict[str, Any] = {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": _name("sess"),
            "include": None,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": DEFAULT_RATE},
                    "transcription": {"model": name or model.name},
                    "noise_reduction": None,
                    "turn_detection": dict(_VAD),
                }
            },
        }
        self.is_beta = False  # described flatly

    @property
    def settings(self) -> dict[str, Any]:
        """The groups of settings."""
        return self.content["audio"]["input"]

    def configuration(self) -> Configure:
        """What they mean."""
        return Configure(
            format=_format(self.settings["format"]),
            endpoint=_endpoint(self.settings["turn_detection"]),
            hotwords=_hotwords(self.settings["transcription"]),
        )

    def told(self) -> dict[str, Any]:
        """The settings in the shape in which they came."""
        content = copy.deepcopy(self.content)
        if not self.is_beta:
            return content
        groups = content.pop("audio")["input"]
        kind = groups["format"]["type"] if isinstance(groups["format"], dict) else groups["format"]
        names = {new: old for old, new in _BETA_FORMATS.items()}
        flat = {name: groups[group] for name, group in _BETA.items()}
        return {**content, **flat, "input_audio_format": names[kind], "modalities": ["text"]}

    def update(self, changes: object, in_beta: bool = False) -> None:
        """Take settings over; what nobody knows is neither kept nor told back."""
        if not isinstance(changes, dict):
            raise _mistake("missing_required_parameter", "session is missing", "session")
        if changes.get("type", "transcription") != "transcription":
            raise _mistake(
                "invalid_value", "only sessions of type 'transcription' are held", "session.type"
            )
        merged = copy.deepcopy(self.content)
        if "include" in changes:
            merged["include"] = _include(changes["include"])
        new = merged["audio"]["input"]
        in_beta = in_beta or any(name in changes for name in _BETA)
        wanted = _flat(changes) if in_beta else {}
        audio = _object(changes.get("audio"), "audio")
        wanted |= _object(audio.get("input"), "audio.input")
        for group, keys in _KNOWN.items():
            if group in wanted:
                new[group] = _known(wanted[group], keys, new[group], group)
        _format(new["format"])
        _endpoint(new["turn_detection"])
        new["transcription"] = new["transcription"] or {}
        check_languages(new["transcription"].get("languages") or (), self._model.language)
        check_language(new["transcription"].get("language"), self._model.language)
        _hotwords(new["transcription"])
        self.content, self.is_beta = merged, in_beta


def create_session(
    model: ModelInfo, request: Mapping[str, Any], secrets: ClientSecrets, in_beta: bool
) -> dict[str, Any]:
    """The answer to client_secrets, or (`in_beta`) to transcription_sessions. Raises Refused."""
    if in_beta:
        wanted, lasting = request, _object(request.get("client_secret"), "client_secret")
        lasting = _object(lasting.get("expires_at"), "client_secret.expires_at")
    else:
        wanted = _object(request.get("session"), "session")
        lasting = _object(request.get("expires_after"), "expires_after")
    seconds = number(lasting.get("seconds", SECRET_SECONDS), "seconds", 10, 7200)
    session = RealtimeSession(model)
    session.update(dict(wanted), in_beta)
    expires_at = round(time.time() + seconds)
    kept = {name: session.content[name] for name in ("include", "audio")}
    value = secrets.make({"session": kept, "is_beta": in_beta}, expires_at)
    secret = {"value": value, "expires_at": expires_at}
    if in_beta:
        return {**session.told(), "client_secret": secret}
    return {**secret, "session": session.told()}


class RealtimeProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "openai_realtime"
    max_message_bytes: ClassVar[int] = MAX_APPENDED_BYTES + (64 << 10)

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        if query.get("intent", "transcription") != "transcription":
            raise bad_request("only intent=transcription is spoken here", "intent")
        self._session = RealtimeSession(model, query.get("model"))
        self._settings = self._session.configuration()  # in force
        self._item = _name("item")
        self._previous: str | None = None
        self._settled = SettledWords()
        self._sent: list[str] = []  # words of the transcript of this item, as deltas
        self._finals: list[StreamEvent] = []  # of this item
        self._speaking = False
        self._committed = 0.0  # seconds of audio when the last item ended
        self._duration = 0.0  # seconds of audio so far

    def restore(self, settings: Mapping[str, Any]) -> None:
        """See LiveProtocol."""
        self._session.update(settings.get("session"))
        self._session.is_beta = bool(settings.get("is_beta"))
        self._settings = self._session.configuration()

    def on_open(self) -> Iterable[Action]:
        """See LiveProtocol."""
        return [self._settings, self._reply("session.created", session=self._session.told())]

    def parse(self, message: Message) -> Iterable[Action]:
        """See LiveProtocol; mistakes are answered."""
        request: dict[str, Any] = {}
        try:
            request = _request(message)
            return list(self._parse(request))
        except Refused as refused:
            if refused.status != 400:
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
                self._begin_item(outcome.duration)
                yield self._event("input_audio_buffer.cleared")
            case Configure() if self._finals and self._detects_turns:
                yield from self._complete()
            case Finish() if self._finals:
                yield from self._complete()

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        kind = "server_error" if refused.status >= 500 else "invalid_request_error"
        return [self._error(kind, refused, None)]

    @property
    def _detects_turns(self) -> bool:
        """The server finds where utterances end."""
        return self._session.settings["turn_detection"] is not None

    def _parse(self, request: dict[str, Any]) -> Iterator[Action]:
        kind = request.get("type")
        match kind:
            case "session.update" | "transcription_session.update":
                in_beta = kind != "session.update"
                self._session.update(request.get("session"), in_beta)
                new = self._session.configuration()
                if new.format != self._settings.format:  # the next bytes have to be understood
                    yield from self._configure()
                yield self._reply(f"{kind}d", session=self._session.told())
            case "input_audio_buffer.append":
                audio = _decoded(request.get("audio"))
                if not self._speaking:  # settings change between utterances
                    yield from self._configure()
                yield Audio(audio)
            case "input_audio_buffer.commit":
                if self._duration <= self._committed:
                    raise _mistake(
                        "input_audio_buffer_commit_empty",
                        "the buffer is empty: append audio before the commit",
                        None,
                    )
                yield Flush()
            case "input_audio_buffer.clear":
                yield Reset()
            case None:
                raise _mistake("missing_required_parameter", "type is missing", "type")
            case other:
                events = ", ".join(_EVENTS)
                raise _mistake("invalid_value", f"type {other!r:.60}: one of {events}", "type")

    def _configure(self) -> Iterator[Configure]:
        """The settings, where they are not in force yet."""
        new = self._session.configuration()
        if new != self._settings:
            self._settings = new
            yield new

    def _render_event(self, event: StreamEvent) -> Iterator[Message]:
        if not self._speaking:
            self._speaking = True
            if self._detects_turns:
                yield self._event(
                    "input_audio_buffer.speech_started",
                    audio_start_ms=round(event.start * 1000),
                    item_id=self._item,
                )
        if not event.is_final:
            if not self.model.punctuates:  # how a word is written depends on those to come
                said = [word for final in self._finals for word in final.text.split()]
                yield from self._delta([*said, *self._settled.add(event)])
            return
        self._finals.append(event)
        self._settled = SettledWords()
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
        ids = {"item_id": self._item, "previous_item_id": self._previous}
        yield self._event("input_audio_buffer.committed", **ids)
        item = {
            "id": self._item,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        if self._session.is_beta:
            created = {"previous_item_id": self._previous, "item": item}
            yield self._event("conversation.item.created", **created)
        else:
            for step in ("added", "done"):
                yield self._event(
                    f"conversation.item.{step}", previous_item_id=self._previous, item=item
                )
        yield from self._delta(transcript.split())
        words = [word for event in self._finals for word in event.words]
        wanted = _LOGPROBS in (self._session.content["include"] or ())
        yield self._event(
            f"{_TRANSCRIPTION}.completed",
            item_id=self._item,
            content_index=0,
            transcript=transcript,
            usage={"type": "duration", "seconds": round(self._duration - self._committed, 3)},
            **({"logprobs": logprobs(words)} if wanted else {}),
        )
        self._previous, self._item = self._item, _name("item")
        self._begin_item(self._duration)

    def _begin_item(self, at: float) -> None:
        self._committed = at
        self._settled = SettledWords()
        self._sent, self._finals, self._speaking = [], [], False

    def _delta(self, words: list[str]) -> Iterator[Message]:
        """The words beyond those of the deltas so far."""
        new = words[len(self._sent) :]
        if not new:
            return
        delta = (" " if self._sent else "") + " ".join(new)
        self._sent += new
        yield self._event(
            f"{_TRANSCRIPTION}.delta", item_id=self._item, content_index=0, delta=delta
        )

    def _error(self, kind: str, refused: Refused, event_id: object) -> dict[str, Any]:
        code = "invalid_value" if refused.reason == "bad_request" else refused.reason
        return self._event(
            "error",
            error={
                "type": kind,
                "code": code,
                "message": refused.message,
                "param": refused.param,
                "event_id": event_id if isinstance(event_id, str) else None,
            },
        )

    def _reply(self, kind: str, **content: Any) -> Reply:
        return Reply(self._event(kind, **content))

    def _event(self, kind: str, **content: Any) -> dict[str, Any]:
        return {"type": kind, "event_id": _name("event"), **content}


def _mistake(code: str, message: str, param: str | None) -> Refused:
    return Refused(code, message, POLICY, 400, param)


def _request(message: Message) -> dict[str, Any]:
    try:
        return parse_object(message)
    except Refused as refused:
        raise _mistake("invalid_json", refused.message, None) from None


def _flat(changes: dict[str, Any]) -> dict[str, Any]:
    """The groups of settings in a flat description."""
    groups = {group: changes[name] for name, group in _BETA.items() if name in changes}
    kind = groups.get("format")
    if "format" in groups:
        if not isinstance(kind, str) or kind not in _BETA_FORMATS:
            known = ", ".join(_BETA_FORMATS)
            raise _mistake(
                "invalid_value",
                f"format {kind!r:.30}: one of {known}",
                "session.input_audio_format",
            )
        groups["format"] = {"type": _BETA_FORMATS[kind]}
        if kind == "pcm16":
            groups["format"]["rate"] = DEFAULT_RATE
    return groups


def _hotwords(transcription: Mapping[str, Any]) -> tuple[str, ...]:
    prompt, keywords = transcription.get("prompt") or "", transcription.get("keywords") or []
    if not isinstance(prompt, str):
        raise _mistake("invalid_type", "prompt is no text", "prompt")
    if not isinstance(keywords, list):
        raise _mistake("invalid_type", "keywords are a list of phrases", "keywords")
    return (*keywords, *prompt_hotwords(prompt))


def _name(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex[:21]}"


def _object(value: object, name: str) -> dict[str, Any]:
    """An object, or an empty one for what is not there."""
    if not isinstance(value, dict | None):
        raise _mistake("invalid_type", f"session.{name} is not an object", f"session.{name}")
    return value or {}


def _known(value: object, keys: frozenset[str], old: object, group: str) -> object:
    """A group of settings with what is new in it."""
    if value is None:
        return None
    if group == "format":
        return value if isinstance(value, str) else _picked(_object(value, group), keys)
    base = old if isinstance(old, dict) else {}
    return {**base, **_picked(_object(value, group), keys)}


def _picked(value: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    picked = {key: value[key] for key in value if key in keys}
    for key, part in picked.items():
        parts = part if isinstance(part, list) and key in ("keywords", "languages") else [part]
        if len(parts) > MAX_KEYWORDS or not all(map(_is_short, parts)):
            raise bad_request(f"{key} is no short text or number", key)
        if parts is part and not all(isinstance(item, str) for item in parts):
            raise bad_request(f"{key} is no list of texts", key)
    return picked


def _is_short(value: object) -> bool:
    """A text or a number that may be kept."""
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return False
    return isinstance(value, str | int | float | None) and len(str(value)) <= MAX_SETTING_LENGTH


def _include(value: object) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(item == _LOGPROBS for item in value):
        raise bad_request(f"include can hold {_LOGPROBS!r} only")
    return value[:1]


def _decoded(audio: object) -> bytes:
    if not isinstance(audio, str):
        raise _mistake("missing_required_parameter", "audio is missing", "audio")
    try:
        return base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _mistake("invalid_value", f"audio is not base64: {error}", "audio") from None


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
    if turn_detection.get("type") == "semantic_vad":
        eagerness = turn_detection.get("eagerness", "auto")
        if not isinstance(eagerness, str) or eagerness not in _EAGERNESS:
            raise bad_request(f"eagerness {eagerness!r:.30}: one of {', '.join(_EAGERNESS)}")
        wanted = _EAGERNESS[eagerness]
    return EndpointConfig(
        rule2_min_trailing_silence=silence(wanted, "turn_detection.silence_duration_ms")
    )

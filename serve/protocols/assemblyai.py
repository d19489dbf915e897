"""AssemblyAI's streaming protocol, version 3: WS /v3/ws?sample_rate=16000&encoding=pcm_s16le.

    C binary; {"type": "ForceEndpoint"}, {"type": "UpdateConfiguration", …}, {"type": "KeepAlive"},
      {"type": "Terminate"}
    S Begin, SpeechStarted, Turn, Warning, Termination, Error

Times in messages are milliseconds. The end of a turn is a pause: its length is
`min_turn_silence` where that is given, else `max_turn_silence`; no model looks at what was said.
Parameters that are not supported are named in warnings after Begin.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
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
)
from serve.protocols.languages import check_language, check_languages
from serve.protocols.values import SettledWords, flag, hotwords, number, parse_object, silence

MAX_TURN_SILENCE = 1280  # ms, unless told otherwise
INVALID, SERVER_ERROR = 3006, 3005  # their codes of errors
_WARNING = 3006
_ENCODINGS = {
    "pcm_s16le": "s16le",
    "pcm_mulaw": "mulaw",
    "ogg_opus": "container",
    "aac": "container",
}
_SILENCES = ("min_turn_silence", "min_end_of_turn_silence_when_confident", "max_turn_silence")
_KNOWN = {
    *("sample_rate", "encoding", "speech_model", "token", "keyterms_prompt", "format_turns"),
    *("language", "language_code", "language_codes", "inactivity_timeout", *_SILENCES),
}
_SESSION_SECONDS = 3 * 3600
_MAX_WARNINGS = 32


class AssemblyProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "assemblyai"
    joins_audio: ClassVar[bool] = True

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        encoding = query.get("encoding", "pcm_s16le")
        if encoding not in _ENCODINGS:
            known = ", ".join(_ENCODINGS)
            raise bad_request(f"encoding {encoding!r:.20}: one of {known}", "encoding")
        rate = round(number(query.get("sample_rate", 16_000), "sample_rate", 1, 1e6))
        for name in ("language", "language_code"):
            if query.get(name) != "multi":
                check_language(query.get(name), model.language)
        check_languages(_list(query.get("language_codes"), "language_codes"), model.language)
        self._silences = {name: query[name] for name in _SILENCES if name in query}
        self._settings = Configure(
            format=AudioFormat(_ENCODINGS[encoding], rate),
            endpoint=_endpoint(self._silences),
            hotwords=_list(query.get("keyterms_prompt"), "keyterms_prompt"),
        )
        self._formats = flag(query.get("format_turns"))
        unknown = [name for name in query if name not in _KNOWN and query[name].lower() != "false"]
        self._unmet = [f"{name[:60]} is not supported" for name in unknown[:_MAX_WARNINGS]]
        if self._formats and not model.punctuates:
            self._unmet.append("format_turns is not supported: this server writes no punctuation")
        self._id = str(uuid.uuid4())
        self._begin = time.time()
        self._turn = 0
        self._speaking = False
        self._settled = SettledWords()

    def on_open(self) -> Iterator[Action]:
        """See LiveProtocol."""
        expires = round(self._begin) + _SESSION_SECONDS
        configuration = {"model": self.model.name, "api_version": "v3"}
        begin = {"type": "Begin", "id": self._id, "expires_at": expires}
        yield Reply({**begin, "configuration": configuration})
        yield self._settings
        for text in self._unmet:
            yield Reply(_warning(text))

    def parse(self, message: Message) -> Iterator[Action]:
        """See LiveProtocol; unknown types are ignored."""
        if isinstance(message, bytes):
            yield Audio(message)
            return
        request = parse_object(message)
        match request.get("type"):
            case "Terminate":
                yield Finish()
            case "ForceEndpoint":
                yield Flush()
            case "UpdateConfiguration":
                yield from self._update(request)

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        if isinstance(outcome.action, Configure):
            for skipped in outcome.skipped_hotwords:
                yield _warning(f"keyterm {skipped.hotword!r}: {skipped.reason}")
        for event in outcome.events:
            if event.text:
                yield from self._render_event(event)
        if isinstance(outcome.action, Finish):
            yield {
                "type": "Termination",
                "audio_duration_seconds": round(outcome.duration),
                "session_duration_seconds": round(time.time() - self._begin),
            }

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        code = SERVER_ERROR if refused.status >= 500 else INVALID
        return [{"type": "Error", "error_code": code, "error": refused.message}]

    def _update(self, request: Mapping[str, Any]) -> Iterator[Action]:
        changed = {name: request[name] for name in _SILENCES if request.get(name) is not None}
        words = request.get("keyterms_prompt")
        phrases = None if words is None else hotwords(words)
        if changed or phrases is not None:
            silences = {**self._silences, **changed}
            endpoint = _endpoint(silences)
            self._silences = silences
            yield Configure(endpoint=endpoint, hotwords=phrases)
        unmet = [name for name in request if name not in {*_KNOWN, "type"}]
        for name in unmet[:_MAX_WARNINGS]:
            yield Reply(_warning(f"{name[:60]} is not supported"))

    def _render_event(self, event: StreamEvent) -> Iterator[Message]:
        if not self._speaking:
            self._speaking = True
            yield {"type": "SpeechStarted", "timestamp": round(1000 * event.start)}
        if not event.is_final:
            settled = self._settled.add(event)
            yield self._message(event, " ".join(settled), _spread(event, len(settled)))
            return
        words = [
            {
                "text": word.word,
                "start": round(1000 * word.start),
                "end": round(1000 * word.end),
                "confidence": round(word.confidence, 4),
                "word_is_final": True,
            }
            for word in event.words
        ]
        yield self._message(event, event.text, words)
        self._turn += 1
        self._speaking, self._settled = False, SettledWords()

    def _message(
        self, event: StreamEvent, transcript: str, words: list[dict[str, Any]]
    ) -> dict[str, Any]:
        return {
            "type": "Turn",
            "turn_order": self._turn,
            "turn_is_formatted": event.is_final and self._formats and self.model.punctuates,
            "end_of_turn": event.is_final,
            "transcript": transcript,
            "utterance": transcript if event.is_final else "",
            "end_of_turn_confidence": float(event.is_final),
            "words": words,
            "language_code": self.model.language,
        }


def _spread(event: StreamEvent, n_final: int) -> list[dict[str, Any]]:
    """The words of a partial result, whose times are not known yet: evenly over its time."""
    words = event.text.split()
    length = (event.end - event.start) / max(1, len(words))
    return [
        {
            "text": word,
            "start": round(1000 * (event.start + i * length)),
            "end": round(1000 * (event.start + (i + 1) * length)),
            "confidence": 0.5,
            "word_is_final": i < n_final,
        }
        for i, word in enumerate(words)
    ]


def _endpoint(silences: Mapping[str, Any]) -> EndpointConfig:
    name = next((name for name in _SILENCES if name in silences), None)
    wanted = MAX_TURN_SILENCE if name is None else silences[name]
    seconds = silence(wanted, name or "max_turn_silence")
    return replace(EndpointConfig(), rule2_min_trailing_silence=seconds)


def _list(value: str | None, name: str) -> tuple[str, ...]:
    """A JSON list of texts in a query."""
    if not value:
        return ()
    try:
        return hotwords(json.loads(value))
    except (ValueError, RecursionError):
        raise bad_request(f"{name} is not a JSON list", name) from None


def _warning(text: str) -> dict[str, Any]:
    return {"type": "Warning", "warning_code": _WARNING, "warning": text}

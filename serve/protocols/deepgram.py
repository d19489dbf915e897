"""Deepgram's live protocol: WS /v1/listen?encoding=linear16&sample_rate=16000&interim_results=true.

    C binary; {"type": "KeepAlive"}, {"type": "Finalize"}, {"type": "CloseStream"}
    S Results, SpeechStarted, UtteranceEnd, Metadata, Error

Without `encoding`, the audio is in a container, as with Deepgram. Options that change the looks of
a text (`punctuate`, `smart_format`, …) change nothing here.
"""

from __future__ import annotations

import datetime
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.stream import EndpointConfig
from asr.types import Segment, StreamEvent
from serve.audio_in import MAX_CHANNELS, AudioFormat
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
)
from serve.protocols.values import (
    check_language,
    confidence,
    flag,
    hotwords,
    number,
    parse_object,
    silence,
    timed_words,
)

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


class DeepgramProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "deepgram"
    joins_audio: ClassVar[bool] = True
    idle_seconds: ClassVar[float] = 10.0

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        format = _format(query)
        if flag(query.get("multichannel")):
            raise bad_request("channels are mixed here: leave multichannel out")
        if query.get("language") != "multi":
            check_language(query.get("language"), model.language)
        # `keywords` are WORD or WORD:INTENSIFIER
        words = [word.partition(":")[0] for word in query.getlist("keywords")]
        self._settings = Configure(
            format=format,
            hotwords=hotwords(query.getlist("keyterm") + words),
            endpoint=_endpoint(query.get("endpointing")),
        )
        self._channels = format.channels
        self._interim = flag(query.get("interim_results"))
        self._vad_events = flag(query.get("vad_events"))
        self._utterance_end = "utterance_end_ms" in query
        self._request_id = str(uuid.uuid4())
        self._digest = hashlib.sha256()
        self._speaking = False
        self._finalized = 0.0  # seconds for which there are finals

    def on_open(self) -> Iterable[Action]:
        """See LiveProtocol."""
        return [self._settings]

    def parse(self, message: Message) -> Iterable[Action]:
        """See LiveProtocol."""
        if isinstance(message, bytes):
            if not message:  # their clients' old way to say CloseStream
                return [Finish()]
            self._digest.update(message)
            return [Audio(message)]
        match parse_object(message).get("type"):
            case "KeepAlive":
                return []
            case "Finalize":
                return [Flush()]
            case "CloseStream":
                return [Finish()]
            case other:
                raise bad_request(f"unknown type {other!r:.50}")

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        finalize = isinstance(outcome.action, Flush)
        for event in outcome.events:
            if event.text:
                yield from self._render_event(event, finalize)
        if finalize and not any(event.is_final for event in outcome.events):
            yield self._nothing(outcome.duration)
        if isinstance(outcome.action, Finish):
            yield self._metadata(outcome)

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        return [
            {
                "type": "Error",
                "variant": refused.reason,
                "description": refused.message,
                "message": refused.message,
            }
        ]

    def _render_event(self, event: StreamEvent, finalize: bool) -> Iterator[Message]:
        if not self._speaking and self._vad_events:
            yield {"type": "SpeechStarted", "channel": [0], "timestamp": round(event.start, 3)}
        self._speaking = not event.is_final
        if event.is_final or self._interim:
            yield self._results(event, finalize)
        if event.is_final and self._utterance_end:
            last = event.words[-1].end if event.words else event.end
            yield {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": round(last, 3)}

    def _results(self, event: StreamEvent, finalize: bool) -> dict[str, Any]:
        start = min(self._finalized, event.start)
        if event.is_final:
            self._finalized = event.end
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": round(event.end - start, 3),
            "start": round(start, 3),
            "is_final": event.is_final,
            "speech_final": event.is_final and event.rule > 0,
            "from_finalize": finalize,
            "channel": {
                "alternatives": [
                    {
                        "transcript": event.text,
                        "confidence": round(confidence(event.words), 4),
                        "words": timed_words(event.words),
                    }
                ]
            },
            "metadata": {
                "request_id": self._request_id,
                "model_info": {"name": self.model.name, "version": "1", "arch": "blstm-ctc"},
                "model_uuid": self.model.name,
            },
        }

    def _nothing(self, end: float) -> dict[str, Any]:
        """The result of a Finalize when nothing was said since the last final."""
        silence = StreamEvent("final", Segment(self._finalized, end, ""), "")
        return self._results(silence, finalize=True)

    def _metadata(self, outcome: Outcome) -> dict[str, Any]:
        warnings = [
            {"parameter": "keyterm", "type": "skipped", "message": f"{s.hotword!r}: {s.reason}"}
            for s in outcome.skipped_hotwords
        ]
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._digest.hexdigest(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(),
            "duration": round(outcome.duration, 4),
            "channels": self._channels,
            **({"warnings": warnings} if warnings else {}),
        }


def _format(query: QueryParams) -> AudioFormat:
    encoding = query.get("encoding")
    if encoding is not None and encoding not in _ENCODINGS:
        raise bad_request(f"encoding {encoding!r:.20}: one of {', '.join(_ENCODINGS)}")
    kind = "container" if encoding is None else _ENCODINGS[encoding]
    if kind != "container" and "sample_rate" not in query:
        raise bad_request("raw audio needs its sample_rate")
    return AudioFormat(
        kind,
        round(number(query.get("sample_rate", 16_000), "sample_rate", 1, 1e6)),
        round(number(query.get("channels", 1), "channels", 1, MAX_CHANNELS)),
    )


def _endpoint(value: str | None) -> EndpointConfig:
    """Their `endpointing`: milliseconds of silence, or false for none."""
    if value is None or value.lower() == "true":
        return EndpointConfig()
    seconds = NEVER if value.lower() == "false" else silence(value, "endpointing")
    return replace(EndpointConfig(), rule2_min_trailing_silence=seconds)

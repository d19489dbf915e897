"""Deepgram's live protocol: WS /v1/listen?encoding=linear16&sample_rate=16000&interim_results=true.

    C binary; {"type": "KeepAlive"}, {"type": "Finalize"}, {"type": "CloseStream"}, {"type":
      "Configure", "keyterms": [...]}; others are ignored
    S Results, SpeechStarted, UtteranceEnd, Metadata, Error

Without `encoding`, the audio is in a container, as with Deepgram. `multichannel` recognises each
channel of raw audio by itself. `endpointing` is by its value, but at least the silence that divides
segments of files (0.5 s): that keeps the words those of a file. Options that cannot be met are
named in `warnings` of Metadata, the last message.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.stream import EndpointConfig
from asr.types import Segment, StreamEvent, mean_confidence
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
from serve.protocols.deepgram_options import (
    model_info,
    read_format,
    read_options,
    result_words,
    warning,
)
from serve.protocols.values import (
    MIN_SILENCE,
    flag,
    hotwords,
    number,
    parse_object,
)

NEVER = math.inf
DEFAULT_ENDPOINTING = 0.01  # seconds
_WORD_LATENCY = 0.5  # seconds until a word that was said shows: only then it is known to be missing


@dataclass
class _Channel:
    """How far one channel is. Times are seconds of the stream."""

    speaking: bool = False
    finalized: float = 0.0  # there are finals until then
    last_word_end: float = 0.0
    utterance_end_due: float = NEVER
    speech_final_due: float = NEVER


class DeepgramProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "deepgram"
    joins_audio: ClassVar[bool] = True
    idle_seconds: ClassVar[float] = 10.0

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        split = flag(query.get("multichannel"))
        format = read_format(query, split and query.get("channels", "1") != "1")
        if split and format.encoding == "container":
            raise bad_request("multichannel needs raw audio: give its encoding", "multichannel")
        self._options = read_options(query, model)
        self._endpointing = _endpointing(query.get("endpointing"))
        self._utterance_end = NEVER
        if query.get("utterance_end_ms"):
            limits = ("utterance_end_ms", 0, 60_000)
            self._utterance_end = number(query["utterance_end_ms"], *limits) / 1000
        # What is silent for either time has to be final by then.
        silence = max(MIN_SILENCE, min(self._endpointing, self._utterance_end))
        self._settings = Configure(
            format=format,
            hotwords=self._options.hotwords,
            endpoint=replace(EndpointConfig(), rule2_min_trailing_silence=silence),
        )
        self._silence = silence
        self._n_channels = format.channels
        self._channels = [_Channel() for _ in range(format.channels if format.split else 1)]
        self._interim = flag(query.get("interim_results"))
        self._vad_events = flag(query.get("vad_events"))
        self._request_id = str(uuid.uuid4())
        self._digest = hashlib.sha256()

    @property
    def headers(self) -> Mapping[str, str]:
        """See LiveProtocol."""
        return {"dg-request-id": self._request_id}

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
        request = parse_object(message)
        match request.get("type"):
            case "Finalize":
                return [Flush()]
            case "CloseStream":
                return [Finish()]
            case "Configure" if request.get("keyterms") is not None:
                return [Configure(hotwords=hotwords(request["keyterms"]))]
            case str():  # of later versions
                return []
        raise bad_request("a message has a type")

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        finalize = isinstance(outcome.action, Flush)
        finals = set()
        for event in outcome.events:
            number = event.segment.channel or 0
            if event.is_final:
                finals.add(number)
            if event.text:
                yield from self._due(number, event.start)
                yield from self._render_event(number, event, finalize)
        for number in range(len(self._channels)):
            yield from self._due(number, outcome.duration - _WORD_LATENCY)
            if finalize and number not in finals:
                yield self._nothing(number, outcome.duration, from_finalize=True)
        match outcome.action:
            case Configure(format=None, hotwords=tuple(terms)):
                yield {
                    "type": "ConfigureSuccess",
                    "request_id": self._request_id,
                    "keyterms": [*terms],
                }
            case Finish():
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

    def _index(self, number: int) -> list[int]:
        return [number, len(self._channels)]

    def _render_event(self, number: int, event: StreamEvent, finalize: bool) -> Iterator[Message]:
        channel = self._channels[number]
        if not channel.speaking and self._vad_events:
            yield {
                "type": "SpeechStarted",
                "channel": self._index(number),
                "timestamp": round(event.start, 3),
            }
        channel.speaking = not event.is_final
        channel.utterance_end_due = channel.speech_final_due = NEVER
        if not event.is_final:
            if self._interim:
                yield self._results(number, event)
            return
        channel.last_word_end = event.words[-1].end if event.words else event.end
        channel.utterance_end_due = channel.last_word_end + self._utterance_end
        speech_final = event.rule > 0 and self._endpointing <= self._silence < NEVER
        if event.rule > 0 and not speech_final:
            channel.speech_final_due = channel.last_word_end + self._endpointing
        yield self._results(number, event, speech_final, finalize)

    def _due(self, number: int, now: float) -> Iterator[Message]:
        """The message after some time without words."""
        channel = self._channels[number]
        if channel.utterance_end_due <= now:
            channel.utterance_end_due = NEVER
            yield {
                "type": "UtteranceEnd",
                "channel": self._index(number),
                "last_word_end": round(channel.last_word_end, 3),
            }
        if channel.speech_final_due <= now:
            channel.speech_final_due = NEVER
            yield self._nothing(number, now, speech_final=True)

    def _results(
        self,
        number: int,
        event: StreamEvent,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> dict[str, Any]:
        channel = self._channels[number]
        start = min(channel.finalized, event.start)
        if event.is_final:
            channel.finalized = event.end
        return {
            "type": "Results",
            "channel_index": self._index(number),
            "duration": round(event.end - start, 3),
            "start": round(start, 3),
            "is_final": event.is_final,
            "speech_final": speech_final,
            "from_finalize": from_finalize,
            "channel": {
                "alternatives": [
                    {
                        "transcript": event.text,
                        "confidence": round(mean_confidence(event.words), 4),
                        "words": result_words(event.words, self.model.punctuates),
                    }
                ]
            },
            "metadata": {
                "request_id": self._request_id,
                "model_info": model_info(self.model),
                "model_uuid": self.model.name,
            },
        }

    def _nothing(self, number: int, end: float, **kind: bool) -> dict[str, Any]:
        """A result without words since the last final."""
        begin = self._channels[number].finalized
        return self._results(number, StreamEvent("final", Segment(begin, end, ""), ""), **kind)

    def _metadata(self, outcome: Outcome) -> dict[str, Any]:
        fields = self._options.metadata(outcome.skipped_hotwords)
        if 0 < self._endpointing < MIN_SILENCE and self._endpointing != DEFAULT_ENDPOINTING:
            told = f"pauses of less than {MIN_SILENCE * 1000:g} ms end no utterance"
            more = warning("endpointing", "unsupported_value", told)
            fields["warnings"] = [*fields.get("warnings", ()), more]
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": self._digest.hexdigest(),
            "created": datetime.datetime.now(datetime.UTC).isoformat(),
            "duration": round(outcome.duration, 4),
            "channels": self._n_channels,
            **fields,
        }


def _endpointing(value: str | None) -> float:
    """Their `endpointing`: milliseconds of silence, or false for none. Seconds."""
    if value is None or value.lower() == "true":
        return DEFAULT_ENDPOINTING
    return NEVER if value.lower() == "false" else number(value, "endpointing", 0, 60_000) / 1000

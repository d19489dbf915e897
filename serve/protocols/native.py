"""Our own WebSocket protocol: binary audio in, JSON events out.

The query: `encoding` (s16le, f32le, mulaw, alaw, container), `sample_rate`, `channels`, `hotword`
(repeated), `silence_ms` (that ends an utterance), `spikes` (true: events tell the network's).

    S {"type": "ready", "model", "language", "skipped_hotwords": [{"hotword", "reason"}]}
    C binary, any size
    S {"type": "partial", "text", "stable", "start", "end", ...}   stable: settled
       with "spikes": [{"time", "symbol", "probability"}] where they were asked for
    S {"type": "final", "text", "words": [{"word", "start", "end", "confidence"}], "rule", ...}
    C {"type": "flush"}    the utterance ends here          C {"type": "reset"}  forget it
    C {"type": "finish"}   S the last final, {"type": "done"}, the end
    S {"type": "error", "reason", "message"}, the end

Times are seconds of the stream. Every event has `heard`, the seconds of audio taken in by then, and
`real_time_factor`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.stream import EndpointConfig
from asr.types import StreamEvent, mean_confidence
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
    Reset,
)
from serve.protocols.values import (
    hotwords,
    number,
    parse_object,
    silence,
    timed_words,
)


class NativeProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "native"
    joins_audio: ClassVar[bool] = True

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        endpoint = EndpointConfig()
        if "silence_ms" in query:
            endpoint = EndpointConfig(
                rule2_min_trailing_silence=silence(query["silence_ms"], "silence_ms")
            )
        self._tells_spikes = query.get("spikes") == "true"
        self._settings = Configure(
            format=AudioFormat(
                query.get("encoding", "s16le"),
                round(number(query.get("sample_rate", 16_000), "sample_rate", 1, 1e6)),
                round(number(query.get("channels", 1), "channels", 1, MAX_CHANNELS)),
            ),
            hotwords=hotwords(query.getlist("hotword")),
            endpoint=endpoint,
        )

    def on_open(self) -> Iterable[Action]:
        """See LiveProtocol."""
        return [self._settings]

    def parse(self, message: Message) -> Iterable[Action]:
        """See LiveProtocol."""
        if isinstance(message, bytes):
            return [Audio(message)]
        match parse_object(message).get("type"):
            case "finish":
                return [Finish()]
            case "flush":
                return [Flush()]
            case "reset":
                return [Reset()]
            case other:
                raise bad_request(f"unknown type {other!r:.50}: one of finish, flush, reset")

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        progress = {
            "heard": round(outcome.duration, 3),
            "real_time_factor": round(outcome.real_time_factor, 4),
        }
        skipped = [asdict(hotword) for hotword in outcome.skipped_hotwords]
        for event in outcome.events:
            if event.text or not event.is_final:
                yield {**_event(event), **self._spikes(event), **progress}
        if isinstance(outcome.action, Configure):
            yield {
                "type": "ready",
                "model": self.model.name,
                "language": self.model.language,
                **({"skipped_hotwords": skipped} if skipped else {}),
            }
        elif isinstance(outcome.action, Finish):
            yield {"type": "done", **progress}

    def _spikes(self, event: StreamEvent) -> dict[str, Any]:
        if not self._tells_spikes:
            return {}
        return {"spikes": [asdict(spike) for spike in event.spikes]}

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        return [{"type": "error", "reason": refused.reason, "message": refused.message}]


def _event(event: StreamEvent) -> dict[str, Any]:
    return {
        "type": event.kind,
        "text": event.text,
        "start": round(event.start, 3),
        "end": round(event.end, 3),
        "confidence": round(mean_confidence(event.words), 4),
        "words": timed_words(event.words),
        **({"rule": event.rule} if event.is_final else {"stable": event.stable}),
    }

"""The streaming WebSocket protocol of sherpa-onnx's servers: WS /sherpa-onnx.

    C binary, float32 samples, 16 kHz          S {"text", "segment", "is_final", "tokens", …}
    C Done                                      S the last result, Done!, the end

Tokens are words here. Their clients connect to any path: give them this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.types import StreamEvent
from serve.audio_in import AudioFormat
from serve.limits import Refused
from serve.protocols.base import (
    Action,
    Audio,
    Configure,
    Finish,
    LiveProtocol,
    Message,
    ModelInfo,
    Outcome,
)


class SherpaProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "sherpa_onnx"
    joins_audio: ClassVar[bool] = True

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        self._segment = 0

    def on_open(self) -> Iterable[Action]:
        """See LiveProtocol."""
        return [Configure(format=AudioFormat("f32le", 16_000))]

    def parse(self, message: Message) -> Iterable[Action]:
        """See LiveProtocol; texts other than Done mean nothing."""
        if isinstance(message, bytes):
            return [Audio(message)]
        return [Finish()] if message.strip().strip('"') == "Done" else []

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        for event in outcome.events:
            if event.text:
                yield self._result(event)
                self._segment += event.is_final
        if isinstance(outcome.action, Finish):
            yield "Done!"

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        return [{"error": refused.message}]

    def _result(self, event: StreamEvent) -> dict[str, Any]:
        return {
            "text": event.text,
            "tokens": [word.word for word in event.words],
            "timestamps": [round(word.start - event.start, 3) for word in event.words],
            "segment": self._segment,
            "start_time": round(event.start, 3),
            "is_final": event.is_final,
            "is_eof": event.is_final and event.rule == 0,
        }

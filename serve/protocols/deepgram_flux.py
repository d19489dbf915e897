"""Deepgram's turn-based protocol: WS /v2/listen?model=flux-general-en&encoding=linear16&….

    C binary; {"type": "ForceEndTurn"}, {"type": "Configure", "keyterms": […]}, {"type":
      "CloseStream"}
    S Connected, TurnInfo (StartOfTurn, Update, EndOfTurn), ConfigureSuccess, Warning, Error

A turn ends with a pause: the server has no probability that the speaker continues, so there are no
EagerEndOfTurn and TurnResumed, and a Warning names confidence thresholds.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.stream import EndpointConfig
from asr.types import StreamEvent
from serve.limits import Refused
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
from serve.protocols.deepgram_options import read_format, read_options
from serve.protocols.languages import check_languages
from serve.protocols.values import hotwords, number, parse_object

END_OF_TURN_SECONDS = 0.8  # of silence, where `eot_timeout_ms` is not less
_MIN_TIMEOUT = 500  # ms


class FluxProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "deepgram_flux"
    joins_audio: ClassVar[bool] = True

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        self._options = read_options(query, model, ("eot_timeout_ms", "language_hint"))
        check_languages(query.getlist("language_hint"), model.language)
        timeout = number(query.get("eot_timeout_ms", 5000), "eot_timeout_ms", _MIN_TIMEOUT, 60_000)
        silence = min(END_OF_TURN_SECONDS, timeout / 1000)
        self._settings = Configure(
            format=read_format(query, split=False),
            hotwords=self._options.hotwords,
            endpoint=replace(EndpointConfig(), rule2_min_trailing_silence=silence),
        )
        self._request_id = str(uuid.uuid4())
        self._sequence = 0
        self._turn = 0
        self._speaking = False

    @property
    def headers(self) -> Mapping[str, str]:
        """See LiveProtocol."""
        return {"dg-request-id": self._request_id}

    def on_open(self) -> Iterator[Action]:
        """See LiveProtocol."""
        yield Reply(self._message("Connected"))
        yield self._settings
        for warning in self._options.warnings:
            yield Reply(self._warning(warning["message"]))

    def parse(self, message: Message) -> Iterable[Action]:
        """See LiveProtocol; unknown types are ignored."""
        if isinstance(message, bytes):
            return [Audio(message)] if message else [Finish()]
        request = parse_object(message)
        match request.get("type"):
            case "CloseStream":
                return [Finish()]
            case "ForceEndTurn":
                return [Flush()]
            case "Configure":
                terms = request.get("keyterms")
                return [Configure(hotwords=hotwords([] if terms is None else terms))]
        return []

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        for event in outcome.events:
            if event.text:
                yield from self._render_event(event, outcome.action)
        if isinstance(outcome.action, Configure):
            for skipped in outcome.skipped_hotwords:
                yield self._warning(f"keyterm {skipped.hotword!r}: {skipped.reason}")
            if outcome.action.format is None:
                terms = [*(outcome.action.hotwords or ())]
                yield self._message("ConfigureSuccess", thresholds={}, keyterms=terms)

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        return [self._message("Error", code=refused.reason.upper(), description=refused.message)]

    def _render_event(self, event: StreamEvent, action: Action) -> Iterator[Message]:
        if not self._speaking:
            self._speaking = True
            yield self._turn_info("StartOfTurn", event)
        if not event.is_final:
            yield self._turn_info("Update", event)
            return
        trigger = "manual" if isinstance(action, Flush) else "timeout"
        yield self._turn_info("EndOfTurn", event, trigger=trigger)
        self._turn += 1
        self._speaking = False

    def _turn_info(self, kind: str, event: StreamEvent, **more: str) -> dict[str, Any]:
        known = [word.confidence for word in event.words]
        words: list[dict[str, Any]] = [
            {"word": text, "confidence": round(known[i], 4) if i < len(known) else 0.5}
            for i, text in enumerate(event.text.split())
        ]
        if event.is_final:
            for word, timed in zip(words, event.words, strict=False):
                word |= {"start": round(timed.start, 3), "end": round(timed.end, 3)}
        return self._message(
            "TurnInfo",
            event=kind,
            turn_index=self._turn,
            audio_window_start=round(event.start, 3),
            audio_window_end=round(event.end, 3),
            transcript=event.text,
            words=words,
            end_of_turn_confidence=float(event.is_final),
            **more,
        )

    def _warning(self, text: str) -> dict[str, Any]:
        return self._message("Warning", code="UNSUPPORTED_PARAMETER", description=text)

    def _message(self, kind: str, **content: Any) -> dict[str, Any]:
        message = {
            "type": kind,
            "request_id": self._request_id,
            "sequence_id": self._sequence,
            **content,
        }
        self._sequence += 1
        return message

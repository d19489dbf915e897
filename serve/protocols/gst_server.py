"""Kaldi GStreamer server: WS /client/ws/speech, and PUT or POST /client/dynamic/recognize.

    C binary, in the format of the query's `content-type`; EOS ends it
    S {"status": 0, "segment": 0, "result": {"hypotheses": [{"transcript"}], "final": false}, "id"}

Without a `content-type`, the audio is in a container. `{"adaptation_state": …}` is ignored: the
model does not adapt to speakers.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from starlette.datastructures import ImmutableMultiDict, QueryParams
from starlette.responses import JSONResponse, Response

from asr.types import StreamEvent, Transcript, Word, mean_confidence
from asr.writers import loss_dict
from serve.audio_in import MAX_CHANNELS, AudioFormat
from serve.limits import Refused, bad_request
from serve.protocols.base import (
    Action,
    Audio,
    Configure,
    Finish,
    LiveProtocol,
    Message,
    ModelInfo,
    Outcome,
    RecordingProtocol,
)
from serve.protocols.languages import check_language
from serve.protocols.values import number
from serve.uploads import Finished

SUCCESS, ABORTED, NOT_AVAILABLE = 0, 2, 9  # their status
_RAW = {"S16LE": "s16le", "F32LE": "f32le", "MULAW": "mulaw", "ALAW": "alaw"}
_FIELD = re.compile(r"([\w-]+)\s*=\s*(?:\(\w+\))?\s*\"?([\w.-]+)")


class GstServerProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "gst_server"

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        if query.get("lang") != "und":
            check_language(query.get("lang"), model.language)
        self._format = _format(query.get("content-type", ""))
        self._id = query.get("content-id") or str(uuid.uuid4())
        self._segment = 0

    def on_open(self) -> Iterable[Action]:
        """See LiveProtocol."""
        return [Configure(format=self._format)]

    def parse(self, message: Message) -> Iterable[Action]:
        """See LiveProtocol."""
        if isinstance(message, bytes):
            return [Finish()] if message == b"EOS" else [Audio(message)]
        return [Finish()] if message.strip() == "EOS" else []

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        for event in outcome.events:
            if event.text:
                yield self._result(event, outcome.duration)
                self._segment += event.is_final

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        status = NOT_AVAILABLE if refused.status >= 500 else ABORTED
        return [{"status": status, "message": refused.message, "id": self._id}]

    def _result(self, event: StreamEvent, duration: float) -> dict[str, Any]:
        hypothesis: dict[str, Any] = {"transcript": event.text}
        times = {}
        if event.is_final:
            hypothesis["confidence"] = round(mean_confidence(event.words), 4)
            hypothesis["word-alignment"] = [_aligned(word, event.start) for word in event.words]
            times = {
                "segment-start": round(event.start, 3),
                "segment-length": round(event.end - event.start, 3),
                "total-length": round(duration, 3),
            }
        return {
            "status": SUCCESS,
            "segment": self._segment,
            "result": {"hypotheses": [hypothesis], "final": event.is_final},
            **times,
            "id": self._id,
        }


class GstRecognizeProtocol(RecordingProtocol):
    """A recording in the body of a request."""

    name: ClassVar[str] = "gst_server_http"
    methods: ClassVar[tuple[str, ...]] = ("PUT", "POST")
    file_field: ClassVar[str | None] = None

    def render(self, transcript: Transcript, recording: Finished) -> Response:
        """See RecordingProtocol."""
        body: dict[str, Any] = {
            "status": SUCCESS,
            "hypotheses": [
                {
                    "utterance": transcript.text,
                    "confidence": round(mean_confidence(transcript.words), 4),
                }
            ],
            "id": str(uuid.uuid4()),
        }
        if transcript.losses:
            body["losses"] = [loss_dict(loss) for loss in transcript.losses]
        if transcript.notices:
            body["notices"] = [*transcript.notices]
        return JSONResponse(body)

    @classmethod
    def render_error(cls, refused: Refused) -> Response:
        """See RecordingProtocol."""
        status = NOT_AVAILABLE if refused.status >= 500 else ABORTED
        return refused.response({"status": status, "message": refused.message})

    def __init__(self, model: ModelInfo, query: QueryParams, fields: ImmutableMultiDict[str, str]):
        super().__init__(model, query, fields)
        if query.get("lang") != "und":
            check_language(query.get("lang"), model.language)


def _aligned(word: Word, start: float) -> dict[str, Any]:
    """Times within the segment."""
    return {
        "word": word.word,
        "start": round(word.start - start, 3),
        "length": round(word.end - word.start, 3),
        "confidence": round(word.confidence, 4),
    }


def _format(caps: str) -> AudioFormat:
    """From GStreamer's description of raw audio.

    >>> _format("audio/x-raw, layout=(string)interleaved, rate=(int)8000, format=(string)S16LE")
    AudioFormat(encoding='s16le', sample_rate=8000, channels=1, split=False)
    """
    kind = caps.partition(",")[0].strip().lower()
    if kind not in ("audio/x-raw", "audio/x-raw-int", "audio/x-mulaw", "audio/x-alaw"):
        return AudioFormat("container")
    fields = {name.lower(): value for name, value in _FIELD.findall(caps)}
    name = kind.removeprefix("audio/x-").upper()
    encoding = _RAW.get(name) or _RAW.get(fields.get("format", "S16LE").upper())
    if encoding is None:
        raise bad_request(f"content-type has the format {fields['format']!r:.20}", "content-type")
    return AudioFormat(
        encoding,
        round(number(fields.get("rate", 16_000), "rate", 1, 1e6)),
        round(number(fields.get("channels", 1), "channels", 1, MAX_CHANNELS)),
    )

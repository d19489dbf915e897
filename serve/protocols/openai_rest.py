"""OpenAI's REST interface to transcription: /v1/audio/transcriptions and /v1/models.

`model`, `prompt`, `temperature` and `chunking_strategy` are accepted, since clients send them, and
change nothing: there is one model, it is deterministic, and it always splits speech at its pauses.

Two fields are not OpenAI's: `channels` (`auto`, `mix`, `each` or a number, as `asr transcribe
--channels`) and, in verbose_json, what was lost or left out (`losses`, `notices`).
"""

from __future__ import annotations

import json
import math
import zlib
from typing import Any, ClassVar

from starlette.datastructures import ImmutableMultiDict, QueryParams
from starlette.responses import JSONResponse, PlainTextResponse, Response

from asr.types import Segment, Transcript
from asr.writers import loss_dict, render
from serve.limits import Refused, bad_request
from serve.protocols.base import ModelInfo, RecordingProtocol
from serve.protocols.values import channel_choice, check_language, logprobs

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = {"word", "segment"}


class TranscriptionsProtocol(RecordingProtocol):
    """See the module."""

    name: ClassVar[str] = "openai_rest"

    def __init__(self, model: ModelInfo, query: QueryParams, fields: ImmutableMultiDict[str, str]):
        super().__init__(model, query, fields)
        check_language(fields.get("language"), model.language)
        self._format = fields.get("response_format") or "json"
        if self._format not in FORMATS:
            raise bad_request(f"response_format {self._format!r:.30}: one of {', '.join(FORMATS)}")
        self._granularities = frozenset(fields.getlist("timestamp_granularities[]"))
        if not self._granularities <= GRANULARITIES:
            raise bad_request("timestamp_granularities are 'word' and 'segment'")
        if self._granularities and self._format != "verbose_json":
            raise bad_request("timestamp_granularities need response_format 'verbose_json'")
        self.is_streamed = fields.get("stream", "").lower() == "true"
        if self.is_streamed and self._format not in ("json", "text"):
            raise bad_request("what is streamed has response_format 'json' or 'text'")
        self.channels = channel_choice(fields.get("channels"))
        self._with_logprobs = "logprobs" in fields.getlist("include[]")

    def render(self, transcript: Transcript) -> Response:
        """See RecordingProtocol."""
        if self._format == "text":
            named = render(transcript, "txt") if transcript.by_channel else transcript.text + "\n"
            return PlainTextResponse(named)
        if self._format in ("srt", "vtt"):
            kind = {"srt": "application/x-subrip", "vtt": "text/vtt"}[self._format]
            return Response(render(transcript, self._format), media_type=f"{kind}; charset=utf-8")
        body: dict[str, Any] = {"text": transcript.text}
        if self._format == "verbose_json":
            body = self._verbose(transcript)
        if self._with_logprobs:
            body["logprobs"] = logprobs(transcript.words)
        return JSONResponse({**body, "usage": _usage(transcript)})

    def render_segment(self, segment: Segment, is_first: bool) -> str:
        """See RecordingProtocol."""
        event: dict[str, Any] = {"delta": ("" if is_first else " ") + segment.text}
        if self._with_logprobs:
            event["logprobs"] = logprobs(segment.words)
        return _server_sent({"type": "transcript.text.delta", **event})

    def render_end(self, transcript: Transcript) -> str:
        """See RecordingProtocol."""
        event: dict[str, Any] = {"text": transcript.text}
        if self._with_logprobs:
            event["logprobs"] = logprobs(transcript.words)
        if transcript.losses:
            event["losses"] = [loss_dict(loss) for loss in transcript.losses]
        return _server_sent({"type": "transcript.text.done", **event, "usage": _usage(transcript)})

    def _verbose(self, transcript: Transcript) -> dict[str, Any]:
        body: dict[str, Any] = {
            "task": "transcribe",
            "language": self.model.language,
            "duration": round(transcript.duration, 3),
            "text": transcript.text,
        }
        if transcript.losses:  # OpenAI has no such field
            body["losses"] = [loss_dict(loss) for loss in transcript.losses]
        if transcript.notices:
            body["notices"] = [*transcript.notices]
        if "word" in self._granularities:
            body["words"] = [
                {"word": w.word, "start": round(w.start, 3), "end": round(w.end, 3)}
                for w in transcript.words
            ]
        if "segment" in self._granularities or not self._granularities:
            body["segments"] = [_segment(i, s) for i, s in enumerate(transcript.segments)]
        return body


def list_models(model: ModelInfo) -> dict[str, Any]:
    """The one model that there is."""
    return {"object": "list", "data": [_model(model)]}


def retrieve_model(model: ModelInfo, name: str) -> dict[str, Any]:
    """Raises Refused for any other name."""
    if name != model.name:
        raise Refused("model_not_found", f"there is no model {name!r:.100}", status=404)
    return _model(model)


def _model(model: ModelInfo) -> dict[str, Any]:
    return {"id": model.name, "object": "model", "created": 0, "owned_by": "blstm-ctc-asr"}


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    """Whisper's fields; those that only its kind of model has keep their neutral values."""
    probabilities = [entry["logprob"] for entry in logprobs(segment.words)]
    mean = sum(probabilities) / len(probabilities) if probabilities else 0.0
    text = segment.text.encode()
    of_channel = {} if segment.channel is None else {"channel": segment.channel}
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(mean, 4),
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 4),
        "no_speech_prob": 0.0,
        **of_channel,
    }


def _server_sent(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"

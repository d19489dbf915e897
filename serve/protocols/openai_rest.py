"""OpenAI's REST interface to transcription: /v1/audio/transcriptions and /v1/models.

Any `model` is accepted, and answered by the one that there is. `prompt` and `keywords` are phrases
to listen for. `temperature` is checked and changes nothing, since the search is deterministic;
speech is always split at its pauses, whatever `chunking_strategy` says.

Fields that OpenAI does not have: `channels` (`auto`, `mix`, `each` or a number, as `asr transcribe
--channels`), and in the answer what was lost or left out (`losses`, `notices`).
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
from serve.limits import POLICY, Refused, bad_request
from serve.protocols.base import ModelInfo, RecordingProtocol
from serve.protocols.languages import check_language, check_languages, language_name
from serve.protocols.values import channel_choice, logprobs, number, prompt_hotwords
from serve.uploads import Finished

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = {"word", "segment"}
_MAX_MODEL_NAME = 200  # characters
_IGNORED = ("known_speaker_names", "known_speaker_references")


class TranscriptionsProtocol(RecordingProtocol):
    """See the module."""

    name: ClassVar[str] = "openai_rest"

    def __init__(self, model: ModelInfo, query: QueryParams, fields: ImmutableMultiDict[str, str]):
        super().__init__(model, query, fields)
        check_language(fields.get("language"), model.language)
        check_languages(_values(fields, "languages"), model.language)
        self._format = fields.get("response_format") or "json"
        if self._format not in FORMATS:
            formats = ", ".join(FORMATS)
            raise bad_request(
                f"response_format {self._format!r:.30}: one of {formats}", "response_format"
            )
        granularities = _values(fields, "timestamp_granularities")
        self._granularities = frozenset(granularities)
        if not self._granularities <= GRANULARITIES:
            raise bad_request(
                "timestamp_granularities are 'word' and 'segment'", "timestamp_granularities"
            )
        if self._granularities and self._format != "verbose_json":
            raise bad_request(
                "timestamp_granularities need response_format 'verbose_json'",
                "timestamp_granularities",
            )
        if temperature := fields.get("temperature"):
            number(temperature, "temperature", 0, 1)
        self.is_streamed = fields.get("stream", "").lower() in ("true", "1")
        if self.is_streamed and self._format in ("srt", "vtt"):
            raise bad_request(
                "what is streamed has response_format 'json', 'text' or 'verbose_json'",
                "response_format",
            )
        self.channels = channel_choice(fields.get("channels"))
        include = _values(fields, "include")
        if not set(include) <= {"logprobs"}:
            raise bad_request("include can hold 'logprobs' only", "include")
        self._with_logprobs = "logprobs" in include
        keywords = [part for value in _values(fields, "keywords") for part in value.split(",")]
        self.hotwords = (*keywords, *prompt_hotwords(fields.get("prompt", "")))
        self._ignored = [f"{name} is not supported" for name in _IGNORED if _values(fields, name)]

    def render(self, transcript: Transcript, recording: Finished) -> Response:
        """See RecordingProtocol."""
        if self._format == "text":
            named = render(transcript, "txt") if transcript.by_channel else transcript.text + "\n"
            return PlainTextResponse(named)
        if self._format in ("srt", "vtt"):
            kind = {"srt": "application/x-subrip", "vtt": "text/vtt"}[self._format]
            return Response(render(transcript, self._format), media_type=f"{kind}; charset=utf-8")
        return JSONResponse(self._body(transcript))

    def render_segment(self, segment: Segment, is_first: bool) -> str:
        """See RecordingProtocol."""
        event: dict[str, Any] = {"delta": ("" if is_first else " ") + segment.text}
        if self._with_logprobs:
            event["logprobs"] = logprobs(segment.words)
        return _server_sent({"type": "transcript.text.delta", **event})

    def render_end(self, transcript: Transcript) -> str:
        """See RecordingProtocol."""
        return _server_sent({"type": "transcript.text.done", **self._body(transcript)})

    def _body(self, transcript: Transcript) -> dict[str, Any]:
        body: dict[str, Any] = {"text": transcript.text}
        if self._format == "verbose_json":
            body = self._verbose(transcript)
        if self._with_logprobs:
            body["logprobs"] = logprobs(transcript.words)
        if transcript.losses:
            body["losses"] = [loss_dict(loss) for loss in transcript.losses]
        if notices := [*transcript.notices, *self._ignored]:
            body["notices"] = notices
        return {**body, "usage": _usage(transcript)}

    def _verbose(self, transcript: Transcript) -> dict[str, Any]:
        body: dict[str, Any] = {
            "task": "transcribe",
            "language": language_name(self.model.language),
            "duration": round(transcript.duration, 3),
            "text": transcript.text,
        }
        if "word" in self._granularities:
            body["words"] = [
                {"word": w.word, "start": round(w.start, 3), "end": round(w.end, 3)}
                for w in transcript.words
            ]
        if "segment" in self._granularities or not self._granularities:
            body["segments"] = [whisper_segment(i, s) for i, s in enumerate(transcript.segments)]
        return body


def no_translation() -> Refused:
    """The answer to /v1/audio/translations."""
    message = "the model does not translate: ask /v1/audio/transcriptions for what is said"
    return Refused("unsupported", message, POLICY, 400)


def list_models(model: ModelInfo) -> dict[str, Any]:
    """The one model that there is."""
    return {"object": "list", "data": [_model(model.name)]}


def retrieve_model(name: str) -> dict[str, Any]:
    """Every name is accepted, and stands for the one model. Raises Refused for what is no name."""
    if not name.isprintable() or len(name) > _MAX_MODEL_NAME:
        raise Refused("model_not_found", f"there is no model {name!r:.100}", POLICY, 404, "model")
    return _model(name)


def whisper_segment(number: int, segment: Segment) -> dict[str, Any]:
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


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "blstm-ctc-asr"}


def _values(fields: ImmutableMultiDict[str, str], name: str) -> list[str]:
    """A list in a form, as `name[]` repeated or as `name`."""
    return [*fields.getlist(f"{name}[]"), *fields.getlist(name)]


def _usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(transcript.duration)}


def _server_sent(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"

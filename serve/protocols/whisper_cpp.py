"""The server of whisper.cpp: POST /inference with a form, and /load.

Form fields that are met: `file`, `response_format` (json, text, srt, verbose_json, vtt),
`language`, `prompt`, `temperature` (checked; the search is deterministic). Those of its search and
its network (`best_of`, `beam_size`, `audio_ctx`, …) mean nothing here; where they change what is
transcribed (`translate`, `offset_t`, …), the request is refused.
"""

from __future__ import annotations

from typing import Any, ClassVar

from starlette.datastructures import ImmutableMultiDict, QueryParams
from starlette.responses import JSONResponse, PlainTextResponse, Response

from asr.types import Segment, Transcript
from asr.writers import loss_dict, render
from serve.limits import Refused, bad_request
from serve.protocols.base import ModelInfo, RecordingProtocol
from serve.protocols.languages import check_language, language_name
from serve.protocols.openai_rest import whisper_segment
from serve.protocols.values import flag, number, prompt_hotwords
from serve.uploads import Finished

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_REFUSED_UNLESS_0 = ("offset_t", "offset_n", "duration", "max_len")
_REFUSED_FLAGS = ("translate", "detect_language")
_UNSUPPORTED_FLAGS = ("diarize", "tinydiarize", "suppress_non_speech", "carry_initial_prompt")


class InferenceProtocol(RecordingProtocol):
    """See the module."""

    name: ClassVar[str] = "whisper_cpp"

    def __init__(self, model: ModelInfo, query: QueryParams, fields: ImmutableMultiDict[str, str]):
        super().__init__(model, query, fields)
        if fields.get("language") != "auto":
            check_language(fields.get("language"), model.language)
        self._format = fields.get("response_format") or "json"
        if self._format not in FORMATS:
            formats = ", ".join(FORMATS)
            raise bad_request(f"response_format {self._format!r:.30}: one of {formats}")
        if temperature := fields.get("temperature"):
            number(temperature, "temperature", 0, 1)
        for name in _REFUSED_FLAGS:
            if flag(fields.get(name)):
                raise bad_request(f"{name} is not supported", name)
        for name in _REFUSED_UNLESS_0:
            if number(fields.get(name) or 0, name, -1, 1e9) > 0:
                raise bad_request(f"{name} is not supported", name)
        self._notices = [
            f"{name} is not supported" for name in _UNSUPPORTED_FLAGS if flag(fields.get(name))
        ]
        self._has_times = not flag(fields.get("no_timestamps"))
        self.hotwords = tuple(prompt_hotwords(fields.get("prompt", "")))

    def render(self, transcript: Transcript, recording: Finished) -> Response:
        """See RecordingProtocol."""
        lines = "".join(f"{segment.text}\n" for segment in transcript.segments)
        if self._format == "text":
            return PlainTextResponse(lines)
        if self._format in ("srt", "vtt"):
            kind = {"srt": "application/x-subrip", "vtt": "text/vtt"}[self._format]
            return Response(render(transcript, self._format), media_type=f"{kind}; charset=utf-8")
        body: dict[str, Any] = {"text": lines}
        if self._format == "verbose_json":
            body = self._verbose(transcript, lines)
        if transcript.losses:
            body["losses"] = [loss_dict(loss) for loss in transcript.losses]
        if notices := [*transcript.notices, *self._notices]:
            body["notices"] = notices
        return JSONResponse(body)

    @classmethod
    def render_error(cls, refused: Refused) -> Response:
        """See RecordingProtocol."""
        return _error(refused)

    def _verbose(self, transcript: Transcript, text: str) -> dict[str, Any]:
        language = language_name(self.model.language)
        return {
            "task": "transcribe",
            "language": language,
            "duration": round(transcript.duration, 3),
            "text": text,
            "segments": [self._segment(i, s) for i, s in enumerate(transcript.segments)],
            "detected_language": language,
            "detected_language_probability": 1.0,  # it knows no other
            "language_probabilities": {self.model.language: 1.0},
        }

    def _segment(self, number: int, segment: Segment) -> dict[str, Any]:
        words = [
            {
                "word": f" {word.word}",
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "t_dtw": -1,
                "probability": round(word.confidence, 4),
            }
            for word in segment.words
        ]
        if not self._has_times:
            words = [{"word": w["word"], "probability": w["probability"]} for w in words]
        fields = {**whisper_segment(number, segment), "words": words}
        left_out = {"seek", "compression_ratio"} | (set() if self._has_times else {"start", "end"})
        return {key: value for key, value in fields.items() if key not in left_out}


def load_model(model: ModelInfo, wanted: object) -> Response:
    """The answer to /load: the one model is loaded, another is not."""
    if not isinstance(wanted, str) or not wanted:
        return _error(bad_request("no 'model' field in the request"))
    names = (model.name, wanted.replace("\\", "/").rstrip("/").rpartition("/")[2])
    if names[0] not in (wanted, names[1].partition(".")[0]):
        return _error(
            bad_request(f"the server holds {model.name!r} and loads no other model", "model")
        )
    return PlainTextResponse("Load was successful!")


def _error(refused: Refused) -> Response:
    return refused.response({"error": refused.message})

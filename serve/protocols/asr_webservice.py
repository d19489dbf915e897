"""The web service for Whisper of ahmetoner/whisper-asr-webservice: POST /asr, /detect-language.

    POST /asr?output=txt|json|srt|vtt|tsv&language=en&word_timestamps=true     audio_file in a form

`encode=false` says that the file holds 16-bit samples at 16 kHz without a header. Speech is always
looked for first (`vad_filter`); speakers are not told apart (`diarize`), nothing is translated.
"""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

from starlette.datastructures import ImmutableMultiDict, QueryParams
from starlette.responses import JSONResponse, Response

from asr.types import Segment, Transcript
from asr.writers import loss_dict, render
from serve.audio_in import AudioFormat
from serve.limits import POLICY, Refused, bad_request
from serve.protocols.base import ModelInfo, RecordingProtocol
from serve.protocols.languages import check_language
from serve.protocols.openai_rest import whisper_segment
from serve.protocols.values import flag, prompt_hotwords
from serve.uploads import Finished

OUTPUTS = ("txt", "json", "srt", "vtt", "tsv")
_FALSE = ("false", "0", "no", "off")


class AsrProtocol(RecordingProtocol):
    """See the module."""

    name: ClassVar[str] = "asr_webservice"
    file_field: ClassVar[str | None] = "audio_file"

    def __init__(self, model: ModelInfo, query: QueryParams, fields: ImmutableMultiDict[str, str]):
        super().__init__(model, query, fields)
        check_language(query.get("language"), model.language)
        if query.get("task", "transcribe") != "transcribe":
            raise bad_request("the model transcribes, it does not translate", "task")
        self._output = query.get("output", "txt")
        if self._output not in OUTPUTS:
            raise bad_request(f"output {self._output!r:.20}: one of {', '.join(OUTPUTS)}", "output")
        if query.get("encode", "true").lower() in _FALSE:
            self.format = AudioFormat("s16le", 16_000)
        self._has_words = flag(query.get("word_timestamps"))
        self._notices = ["diarize is not supported"] if flag(query.get("diarize")) else []
        self.hotwords = tuple(prompt_hotwords(query.get("initial_prompt", "")))

    def render(self, transcript: Transcript, recording: Finished) -> Response:
        """See RecordingProtocol."""
        headers = {
            "asr-engine": quote(self.model.name),
            "content-disposition": f'attachment; filename="transcript.{self._output}"',
        }
        if self._output == "json":
            return JSONResponse(self._json(transcript), headers=headers)
        if self._output == "tsv":
            rows = [
                f"{round(1000 * s.start)}\t{round(1000 * s.end)}\t{s.text}\n"
                for s in transcript.segments
            ]
            text = "start\tend\ttext\n" + "".join(rows)
        elif self._output == "txt":
            text = "".join(f"{segment.text}\n" for segment in transcript.segments)
        else:
            text = render(transcript, self._output)
        return Response(text, headers=headers, media_type="text/plain; charset=utf-8")

    @classmethod
    def render_error(cls, refused: Refused) -> Response:
        """See RecordingProtocol."""
        return refused.response({"detail": refused.message})

    def _json(self, transcript: Transcript) -> dict[str, Any]:
        body: dict[str, Any] = {
            "text": transcript.text,
            "segments": [self._segment(i, s) for i, s in enumerate(transcript.segments)],
            "language": self.model.language,
        }
        if transcript.losses:
            body["losses"] = [loss_dict(loss) for loss in transcript.losses]
        if notices := [*transcript.notices, *self._notices]:
            body["notices"] = notices
        return body

    def _segment(self, number: int, segment: Segment) -> dict[str, Any]:
        fields = whisper_segment(number, segment)
        if self._has_words:
            fields["words"] = [
                {
                    "word": f" {word.word}",
                    "start": round(word.start, 3),
                    "end": round(word.end, 3),
                    "probability": round(word.confidence, 4),
                }
                for word in segment.words
            ]
        return fields


def no_detection(model: ModelInfo) -> Refused:
    """The answer to /detect-language."""
    message = f"languages are not detected: the model knows {model.language!r} only"
    return Refused("unsupported", message, POLICY, 501)

"""Deepgram's POST /v1/listen: the body is a recording, the query says what is wanted.

    POST /v1/listen?multichannel=true&utterances=true&paragraphs=true     Content-Type: audio/wav

Recordings at an address (`{"url": ...}`) are not fetched. Options that cannot be met are named in
`metadata.warnings`.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from starlette.datastructures import ImmutableMultiDict, QueryParams
from starlette.responses import JSONResponse, Response

from asr.types import Segment, Transcript, Word, mean_confidence
from asr.writers import loss_dict
from serve.limits import Refused
from serve.protocols.base import ModelInfo, RecordingProtocol
from serve.protocols.deepgram_options import (
    error_body,
    model_info,
    read_format,
    read_options,
    result_words,
    warning,
)
from serve.protocols.values import flag, number
from serve.uploads import Finished

_UTTERANCE_SPLIT = 0.8  # seconds between words, unless `utt_split` says otherwise
_PARAGRAPH_SPLIT = 2.0  # seconds between sentences
_REQUEST_ID = "dg-request-id"


class ListenProtocol(RecordingProtocol):
    """See the module."""

    name: ClassVar[str] = "deepgram_rest"
    file_field: ClassVar[str | None] = None

    def __init__(self, model: ModelInfo, query: QueryParams, fields: ImmutableMultiDict[str, str]):
        super().__init__(model, query, fields)
        self._options = read_options(query, model, ("detect_language",))
        self.hotwords = self._options.hotwords
        if query.get("encoding"):
            self.format = read_format(query, split=False)
        self._multichannel = flag(query.get("multichannel"))
        self.channels = "each" if self._multichannel else "auto"
        self._utterances = flag(query.get("utterances"))
        self._split = number(query.get("utt_split", _UTTERANCE_SPLIT), "utt_split", 0, 3600)
        self._paragraphs = flag(query.get("paragraphs"))
        self._detects = flag(query.get("detect_language"))
        self._request_id = str(uuid.uuid4())

    def render(self, transcript: Transcript, recording: Finished) -> Response:
        """See RecordingProtocol."""
        n_channels = recording.channels if self._multichannel else 1
        by_channel = [self._of_channel(transcript, number) for number in range(n_channels)]
        results: dict[str, Any] = {"channels": [self._channel(own) for own in by_channel]}
        if self._utterances:
            found = [
                self._utterance(words, number)
                for number, own in enumerate(by_channel)
                for words in _split_words(own, self._split)
            ]
            results["utterances"] = sorted(found, key=lambda utterance: utterance["start"])
        body = {"metadata": self._metadata(transcript, recording, n_channels), "results": results}
        return JSONResponse(body, headers={_REQUEST_ID: self._request_id})

    @classmethod
    def render_error(cls, refused: Refused) -> Response:
        """See RecordingProtocol."""
        request_id = str(uuid.uuid4())
        response = refused.response(error_body(refused.message, refused.reason, request_id))
        response.headers[_REQUEST_ID] = request_id
        return response

    def _of_channel(self, transcript: Transcript, number: int) -> list[Segment]:
        if not self._multichannel:
            return [*transcript.segments]
        return [segment for segment in transcript.segments if (segment.channel or 0) == number]

    def _channel(self, segments: Sequence[Segment]) -> dict[str, Any]:
        words = [word for segment in segments for word in segment.words]
        alternative: dict[str, Any] = {
            "transcript": " ".join(segment.text for segment in segments),
            "confidence": round(mean_confidence(words), 4),
            "words": result_words(words, self.model.punctuates),
        }
        if self._paragraphs:
            alternative["paragraphs"] = _paragraphs(segments)
        language = {"detected_language": self.model.language} if self._detects else {}
        return {"alternatives": [alternative], **language}

    def _utterance(self, words: Sequence[Word], channel: int) -> dict[str, Any]:
        return {
            "start": round(words[0].start, 3),
            "end": round(words[-1].end, 3),
            "confidence": round(mean_confidence(words), 4),
            "channel": channel,
            "transcript": " ".join(word.word for word in words),
            "words": result_words(words, self.model.punctuates),
            "id": str(uuid.uuid4()),
        }

    def _metadata(
        self, transcript: Transcript, recording: Finished, n_channels: int
    ) -> dict[str, Any]:
        fields = self._options.metadata()
        told = [warning("audio", "notice", notice) for notice in transcript.notices]
        if self._detects:
            message = f"languages are not detected: it is always {self.model.language!r}"
            told.append(warning("detect_language", "unsupported_parameter", message))
        if told:
            fields["warnings"] = [*fields.get("warnings", ()), *told]
        if transcript.losses:
            fields["losses"] = [loss_dict(loss) for loss in transcript.losses]
        return {
            "transaction_key": "deprecated",
            "request_id": self._request_id,
            "sha256": recording.sha256,
            "created": datetime.datetime.now(datetime.UTC).isoformat(),
            "duration": round(transcript.duration, 4),
            "channels": n_channels,
            "models": [self.model.name],
            "model_info": {self.model.name: model_info(self.model)},
            **fields,
        }


def _split_words(segments: Sequence[Segment], gap: float) -> Iterator[list[Word]]:
    """Words between pauses of more than `gap` seconds."""
    utterance: list[Word] = []
    for word in (word for segment in segments for word in segment.words):
        if utterance and word.start - utterance[-1].end > gap:
            yield utterance
            utterance = []
        utterance.append(word)
    if utterance:
        yield utterance


def _paragraphs(segments: Sequence[Segment]) -> dict[str, Any]:
    """A sentence is what was said between two pauses; a longer pause ends a paragraph."""
    paragraphs: list[list[Segment]] = []
    for segment in segments:
        if paragraphs and segment.start - paragraphs[-1][-1].end <= _PARAGRAPH_SPLIT:
            paragraphs[-1].append(segment)
        else:
            paragraphs.append([segment])
    return {
        "transcript": "\n\n".join(" ".join(s.text for s in part) for part in paragraphs),
        "paragraphs": [
            {
                "sentences": [
                    {"text": s.text, "start": round(s.start, 3), "end": round(s.end, 3)}
                    for s in part
                ],
                "num_words": sum(len(segment.words) for segment in part),
                "start": round(part[0].start, 3),
                "end": round(part[-1].end, 3),
            }
            for part in paragraphs
        ],
    }

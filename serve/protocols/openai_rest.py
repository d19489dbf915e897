"""OpenAI's REST interface to transcription: /v1/audio/transcriptions and /v1/models.

`model`, `prompt`, `temperature` and `chunking_strategy` are accepted, since clients send them, and
change nothing: there is one model, it is deterministic, and it always parts speech by its pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import math
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from asr.types import Segment, Transcript
from asr.writers import render
from serve import limits
from serve.auth import presented_key
from serve.hub import Hub
from serve.limits import bad_request
from serve.protocols._values import check_language, logprobs
from serve.uploads import Heard

FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = {"word", "segment"}
MOST_FIELDS, MOST_FIELD_BYTES = 64, 64 << 10
_FORM_OVERHEAD = 128 << 10  # bytes of a request that are not the recording
router = APIRouter(prefix="/v1")


@dataclass(frozen=True)
class _Wish:
    """What a client wants to be done with a recording."""

    recording: io.BytesIO
    format: str
    granularities: frozenset[str]
    with_logprobs: bool
    stream: bool


@router.get("/models")
async def models(request: Request) -> dict[str, Any]:
    """The one model that there is."""
    check_key(request)
    return {"object": "list", "data": [_model(request.app.state.hub)]}


@router.get("/models/{name}")
async def model(request: Request, name: str) -> dict[str, Any]:
    """Raises Refused for any other."""
    check_key(request)
    hub: Hub = request.app.state.hub
    if name != hub.model:
        raise limits.Refused("model_not_found", f"there is no model {name!r:.100}", status=404)
    return _model(hub)


@router.post("/audio/transcriptions")
async def transcriptions(request: Request) -> Response:
    """The words of a recording. Raises Refused, or AudioError for what is no recording."""
    hub: Hub = request.app.state.hub
    check_key(request)
    hub.check_open()
    with contextlib.ExitStack() as held:
        held.enter_context(hub.uploads.places.taken())
        wish = await _read_form(request, hub)
        results = hub.uploads.segments(wish.recording)
        if wish.stream:
            first = await anext(results)  # what is wrong with it shows before the answer begins
            hub.metrics.uploads.inc()
            return _HeldResponse(_server_sent(hub, first, results, wish), held.pop_all())
        transcript = await _collect(request, hub, results)
    if transcript is None:
        return Response(status_code=499)  # who asked has left
    hub.metrics.uploads.inc()
    hub.metrics.audio.labels("openai_rest").inc(transcript.duration)
    return _respond(transcript, wish, hub.language)


def check_key(request: Request) -> None:
    """Raises Refused unless the request has a key that opens the server."""
    if not request.app.state.hub.keys.accept(presented_key(request.headers)):
        raise limits.unauthorized()


class _HeldResponse(StreamingResponse):
    """Server-sent events; what is `held` is let go of at the end, however it comes."""

    def __init__(self, events: AsyncGenerator[str], held: contextlib.ExitStack):
        super().__init__(events, media_type="text/event-stream")
        self._events, self._held = events, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._events.aclose()
            self._held.close()


async def _collect(
    request: Request, hub: Hub, results: AsyncGenerator[Segment | Heard]
) -> Transcript | None:
    """The whole transcript; None, and no more work, if the client leaves before."""

    async def collect() -> Transcript:
        segments: list[Segment] = []
        async with contextlib.aclosing(results):
            async for result in results:
                if isinstance(result, Heard):
                    return Transcript(tuple(segments), result.duration, hub.model)
                segments.append(result)
        raise AssertionError("a recording ends with Heard")

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.create_task(collect()), asyncio.create_task(left())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read_form(request: Request, hub: Hub) -> _Wish:
    """The fields of the form, checked. Raises Refused for what cannot be done."""
    most = hub.settings.max_upload_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most + _FORM_OVERHEAD:
        raise limits.too_big("the recording", most)
    bounded = Request(request.scope, _bounded(request, most, hub.settings.idle_seconds))
    async with bounded.form(
        max_files=1, max_fields=MOST_FIELDS, max_part_size=MOST_FIELD_BYTES
    ) as form:
        upload = form.get("file")
        if not isinstance(upload, UploadFile):
            raise bad_request("the form has no recording in its field 'file'")
        if (upload.size or 0) > most:
            raise limits.too_big("the recording", most)
        check_language(form.get("language"), hub.language)
        recording = io.BytesIO(await upload.read())
        recording.name = upload.filename or "the recording"  # what errors call it
        return _wish(form, recording)


def _wish(form: FormData, recording: io.BytesIO) -> _Wish:
    format = str(form.get("response_format") or "json")
    if format not in FORMATS:
        raise bad_request(f"response_format {format!r:.30}: one of {', '.join(FORMATS)}")
    granularities = frozenset(map(str, form.getlist("timestamp_granularities[]")))
    if not granularities <= GRANULARITIES:
        raise bad_request("timestamp_granularities are 'word' and 'segment'")
    if granularities and format != "verbose_json":
        raise bad_request("timestamp_granularities need response_format 'verbose_json'")
    stream = str(form.get("stream") or "").lower() == "true"
    if stream and format not in ("json", "text"):
        raise bad_request("what is streamed has response_format 'json' or 'text'")
    return _Wish(recording, format, granularities, "logprobs" in form.getlist("include[]"), stream)


def _bounded(request: Request, most: int, patience: float) -> Receive:
    """The request's body; Refused as soon as it is too big, or stalls."""
    n_bytes = 0

    async def receive() -> Message:
        nonlocal n_bytes
        try:
            async with asyncio.timeout(patience):
                message = await request.receive()
        except TimeoutError:
            raise limits.idle(patience) from None
        n_bytes += len(message.get("body", b""))
        if n_bytes > most + _FORM_OVERHEAD:
            raise limits.too_big("the recording", most)
        return message

    return receive


def _respond(transcript: Transcript, wish: _Wish, language: str) -> Response:
    if wish.format == "text":
        return PlainTextResponse(transcript.text + "\n")
    if wish.format in ("srt", "vtt"):
        kind = {"srt": "application/x-subrip", "vtt": "text/vtt"}[wish.format]
        return Response(render(transcript, wish.format), media_type=f"{kind}; charset=utf-8")
    body: dict[str, Any] = {"text": transcript.text}
    if wish.format == "verbose_json":
        body = {
            "task": "transcribe",
            "language": language,
            "duration": round(transcript.duration, 3),
            **body,
        }
        if "word" in wish.granularities:
            body["words"] = [
                {"word": w.word, "start": round(w.start, 3), "end": round(w.end, 3)}
                for w in transcript.words
            ]
        if "segment" in wish.granularities or not wish.granularities:
            body["segments"] = [_segment(i, s) for i, s in enumerate(transcript.segments)]
    if wish.with_logprobs:
        body["logprobs"] = logprobs(transcript.words)
    body["usage"] = {"type": "duration", "seconds": math.ceil(transcript.duration)}
    return JSONResponse(body)


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    """Whisper's fields; those that only its kind of model has keep their neutral values."""
    chances = [entry["logprob"] for entry in logprobs(segment.words)]
    text = segment.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(chances) / len(chances), 4) if chances else 0.0,
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 4),
        "no_speech_prob": 0.0,
    }


async def _server_sent(
    hub: Hub, first: Segment | Heard, results: AsyncGenerator[Segment | Heard], wish: _Wish
) -> AsyncGenerator[str]:
    """A delta for each segment, then the whole."""
    segments: list[Segment] = []
    duration = 0.0
    async with contextlib.aclosing(results):
        async for result in _chain(first, results):
            if isinstance(result, Heard):
                duration = result.duration
                hub.metrics.audio.labels("openai_rest").inc(duration)
                continue
            delta: dict[str, Any] = {"delta": (" " if segments else "") + result.text}
            segments.append(result)
            if wish.with_logprobs:
                delta["logprobs"] = logprobs(result.words)
            yield _sse({"type": "transcript.text.delta", **delta})
    done: dict[str, Any] = {"text": " ".join(segment.text for segment in segments)}
    if wish.with_logprobs:
        done["logprobs"] = logprobs(word for segment in segments for word in segment.words)
    usage = {"type": "duration", "seconds": math.ceil(duration)}
    yield _sse({"type": "transcript.text.done", **done, "usage": usage})


async def _chain(
    first: Segment | Heard, rest: AsyncGenerator[Segment | Heard]
) -> AsyncGenerator[Segment | Heard]:
    yield first
    async for result in rest:
        yield result


def _sse(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\n\n"


def _model(hub: Hub) -> dict[str, Any]:
    return {"id": hub.model, "object": "model", "created": 0, "owned_by": "blstm-ctc-asr"}

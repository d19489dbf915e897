"""Recordings over HTTP: a request is checked, read, transcribed and answered.

What a request asks for, and what the answer looks like, is a `RecordingProtocol`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from starlette.datastructures import ImmutableMultiDict, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from asr.types import Loss, Segment, Transcript
from serve import limits
from serve.audio_in import with_header
from serve.guard import check_key
from serve.hub import Hub
from serve.limits import bad_request, nonsense_refused
from serve.protocols.base import RecordingProtocol
from serve.protocols.values import parse_object
from serve.settings import ServeSettings
from serve.uploads import Finished

UPLOAD_GRACE_SECONDS = 10.0
MAX_FIELDS, MAX_FIELD_BYTES = 64, 64 << 10
LOSSES_HEADER = "X-Audio-Losses"  # of damaged recordings: what is missing, in seconds
MAX_NAMED_LOSSES = 20
_NO_RECORDINGS = ("application/json", "multipart/form-data")
_FORM_OVERHEAD = 128 << 10  # bytes of a request that are not the recording


def endpoint(kind: type[RecordingProtocol]) -> Callable[[Request], Awaitable[Response]]:
    """The handler of requests in a protocol. Raises Refused, or AudioError for no recording."""

    async def transcribe(request: Request) -> Response:
        hub: Hub = request.app.state.hub
        check_key(request, hub)
        loaded = hub.check_open()
        uploads = loaded.uploads
        uploads.places.check()  # before anything is sent; a place is for what has arrived
        try:
            recording, fields = await _read(request, hub, kind.file_field)
        except ClientDisconnect:
            return Response(status_code=499)  # the client has closed the connection
        with nonsense_refused(kind.name):
            protocol = kind(hub.info, request.query_params, fields)
        if protocol.format is not None:
            recording = with_header(recording, protocol.format)
        with contextlib.ExitStack() as held:
            held.enter_context(uploads.places.taken())
            prepared = await loaded.hotwords.prepare(protocol.hotwords)
            results = _with_notices(
                uploads.segments(recording, prepared.recognizer, protocol.channels),
                tuple(f"{skipped.hotword!r}: {skipped.reason}" for skipped in prepared.skipped),
            )
            if protocol.is_streamed:
                first = await anext(results)  # what is wrong with it shows before the answer begins
                hub.metrics.uploads.inc()
                events = _server_sent(hub, protocol, first, results)
                return _HeldResponse(events, held.pop_all())
            collected = await _collect(request, hub, protocol, results)
        if collected is None:
            return Response(status_code=499)  # who asked has left
        transcript, end = collected
        hub.metrics.uploads.inc()
        hub.metrics.audio.labels(protocol.name).inc(transcript.duration)
        response = protocol.render(transcript, end)
        if transcript.losses:
            response.headers[LOSSES_HEADER] = _in_header(transcript.losses)
        return response

    return transcribe


def _in_header(losses: Sequence[Loss]) -> str:
    """`36.40-37.02, 64.00-`: seconds from - to, to an unknown end where nothing follows."""
    spans = [f"{loss.start:.2f}-{'' if loss.end is None else f'{loss.end:.2f}'}" for loss in losses]
    more = ["..."] if len(spans) > MAX_NAMED_LOSSES else []
    return ", ".join(spans[:MAX_NAMED_LOSSES] + more)


def _transcript(
    segments: Sequence[Segment], end: Finished, hub: Hub, protocol: RecordingProtocol
) -> Transcript:
    return Transcript(
        tuple(segments),
        end.duration,
        hub.info.name,
        end.losses,
        end.notices,
        by_channel=protocol.channels == "each",
    )


async def _with_notices(
    results: AsyncGenerator[Segment | Finished], notices: tuple[str, ...]
) -> AsyncGenerator[Segment | Finished]:
    """The results, with what is to be told beside what the recording gives reason to."""
    async with contextlib.aclosing(results):
        async for result in results:
            if isinstance(result, Finished):
                result = replace(result, notices=(*notices, *result.notices))
            yield result


class _HeldResponse(StreamingResponse):
    """Server-sent events; what is `held` is released at the end, however it comes."""

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
    request: Request,
    hub: Hub,
    protocol: RecordingProtocol,
    results: AsyncGenerator[Segment | Finished],
) -> tuple[Transcript, Finished] | None:
    """The whole transcript; None, and no more work, if the client leaves before."""

    async def collect() -> tuple[Transcript, Finished]:
        segments: list[Segment] = []
        async with contextlib.aclosing(results):
            async for result in results:
                if isinstance(result, Finished):
                    return _transcript(segments, result, hub, protocol), result
                segments.append(result)
        raise AssertionError("a recording ends with Finished")

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


async def _server_sent(
    hub: Hub,
    protocol: RecordingProtocol,
    first: Segment | Finished,
    rest: AsyncGenerator[Segment | Finished],
) -> AsyncGenerator[str]:
    segments: list[Segment] = []
    async with contextlib.aclosing(rest):
        result = first
        while not isinstance(result, Finished):
            yield protocol.render_segment(result, is_first=not segments)
            segments.append(result)
            result = await anext(rest)
    hub.metrics.audio.labels(protocol.name).inc(result.duration)
    yield protocol.render_end(_transcript(segments, result, hub, protocol))


async def _read(
    request: Request, hub: Hub, file_field: str | None
) -> tuple[io.BytesIO, ImmutableMultiDict[str, str]]:
    """The recording and the fields of the form. Raises Refused for what is too big."""
    limit = hub.settings.max_upload_bytes
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit + _FORM_OVERHEAD:
        raise limits.too_big("the recording", limit)
    bounded = Request(request.scope, _bounded(request, limit, hub.settings))
    if file_field is None:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in _NO_RECORDINGS:
            raise bad_request(f"send the recording itself, not {kind}: no address is fetched")
        return io.BytesIO(await bounded.body()), ImmutableMultiDict()
    try:
        return await _read_form(bounded, file_field, limit)
    except OSError as error:  # the form's temporary file
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise limits.disk_full() from None
        raise
    except (ValueError, LookupError, AttributeError) as error:
        raise bad_request(f"the form cannot be read: {error}") from None


async def read_json(request: Request, hub: Hub) -> dict[str, Any]:
    """An object in the body, empty where there is no body. Raises Refused for anything else."""
    bounded = Request(request.scope, _bounded(request, _FORM_OVERHEAD, hub.settings))
    body = await bounded.body()
    return parse_object(body) if body.strip() else {}


async def read_fields(request: Request, hub: Hub) -> ImmutableMultiDict[str, str]:
    """The fields of a form without a recording. Raises Refused for what is no such form."""
    bounded = Request(request.scope, _bounded(request, _FORM_OVERHEAD, hub.settings))
    try:
        async with bounded.form(
            max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
        ) as form:
            fields = [(key, value) for key, value in form.multi_items() if isinstance(value, str)]
            return ImmutableMultiDict(fields)
    except (ValueError, LookupError, AttributeError) as error:
        raise bad_request(f"the form cannot be read: {error}") from None


async def _read_form(
    request: Request, file_field: str, limit: int
) -> tuple[io.BytesIO, ImmutableMultiDict[str, str]]:
    async with request.form(
        max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD_BYTES
    ) as form:
        upload = form.get(file_field)
        if not isinstance(upload, UploadFile):
            raise bad_request(f"the form has no recording in its field {file_field!r}")
        if (upload.size or 0) > limit:
            raise limits.too_big("the recording", limit)
        recording = io.BytesIO(await upload.read())
        recording.name = upload.filename or "the recording"  # what errors call it
        fields = [(key, value) for key, value in form.multi_items() if isinstance(value, str)]
        return recording, ImmutableMultiDict(fields)


def _bounded(request: Request, limit: int, settings: ServeSettings) -> Receive:
    """The request's body; Refused as soon as it is too big, stalls, or comes too slowly."""
    n_bytes = 0
    patience, begin = settings.idle_seconds, time.monotonic()

    async def receive() -> Message:
        nonlocal n_bytes
        due = max(UPLOAD_GRACE_SECONDS, n_bytes / settings.min_upload_rate)
        left = due - (time.monotonic() - begin)
        try:
            async with asyncio.timeout(min(patience, left)):
                message = await request.receive()
        except TimeoutError:
            if left < patience:
                raise limits.too_slow(settings.min_upload_rate) from None
            raise limits.idle(patience) from None
        n_bytes += len(message.get("body", b""))
        if n_bytes > limit + _FORM_OVERHEAD:
            raise limits.too_big("the recording", limit)
        return message

    return receive

"""Twilio's media streams: WS /twilio, to be named in <Stream url="wss://HOST/twilio">.

    C connected; start {streamSid, start: {tracks, mediaFormat, customParameters}}; media {media:
      {track, payload}}, base64 of mu-law at 8 kHz; mark {mark: {name}}; dtmf; stop
    S {"event": "transcript", "streamSid", "transcript": {"text", "is_final", "track", …}}; mark

Twilio defines no message for transcripts: `transcript` is ours, and Twilio itself ignores it; a
proxy in between can read it. Both tracks of a call are recognised separately. A mark comes back
when all audio before it is recognised. Custom parameters: `language`, and `hotwords`,
comma-separated.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from starlette.datastructures import QueryParams

from asr.types import StreamEvent, mean_confidence
from serve.audio_in import AudioFormat
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
    Reply,
)
from serve.protocols.languages import check_language
from serve.protocols.values import number, parse_object, timed_words

RATE = 8000  # Hz
MAX_LAG = 2 * RATE  # samples that one track may be ahead of the other
_SILENCE = b"\xff"  # of mu-law
_TRACKS = ("inbound", "outbound")
_MAX_SID = 100  # characters


class TwilioProtocol(LiveProtocol):
    """See the module."""

    name: ClassVar[str] = "twilio"

    def __init__(self, model: ModelInfo, query: QueryParams):
        super().__init__(model, query)
        self._sid = ""
        self._tracks: tuple[str, ...] = ("inbound",)
        self._waiting = {track: bytearray() for track in _TRACKS}  # for the other track

    def on_open(self) -> Iterable[Action]:
        """See LiveProtocol."""
        return [Configure(format=AudioFormat("mulaw", RATE))]

    def parse(self, message: Message) -> Iterator[Action]:
        """See LiveProtocol; events of other kinds mean nothing here."""
        if isinstance(message, bytes):
            raise bad_request("messages are JSON texts, audio in base64")
        request = parse_object(message)
        match request.get("event"):
            case "start":
                yield self._start(request, _object(request, "start"))
            case "media":
                yield from self._media(_object(request, "media"))
            case "mark":
                name = _object(request, "mark").get("name")
                if isinstance(name, str):
                    mark = {"event": "mark", "streamSid": self._sid, "mark": {"name": name[:256]}}
                    yield Reply(mark)
            case "stop":
                yield from self._interleaved(is_last=True)
                yield Finish()

    def render(self, outcome: Outcome) -> Iterator[Message]:
        """See LiveProtocol."""
        for event in outcome.events:
            if event.text:
                yield self._transcript(event)

    def on_error(self, refused: Refused) -> Iterable[Message]:
        """See LiveProtocol."""
        error = {"code": refused.reason, "message": refused.message}
        return [{"event": "error", "streamSid": self._sid, "error": error}]

    def _start(self, request: dict[str, Any], start: dict[str, Any]) -> Configure:
        sid = request.get("streamSid") or start.get("streamSid") or ""
        self._sid = str(sid)[:_MAX_SID]
        told = start.get("tracks")
        named = [track for track in told if track in _TRACKS] if isinstance(told, list) else []
        self._tracks = tuple(track for track in _TRACKS if track in named) or ("inbound",)
        given = start.get("mediaFormat")
        media = given if isinstance(given, dict) else {}
        if media.get("encoding", "audio/x-mulaw") != "audio/x-mulaw":
            raise bad_request(f"mediaFormat is {media['encoding']!r:.40}, not audio/x-mulaw")
        number(media.get("sampleRate", RATE), "sampleRate", RATE, RATE)
        given = start.get("customParameters")
        custom = given if isinstance(given, dict) else {}
        check_language(custom.get("language"), self.model.language)
        words = [word.strip() for word in str(custom.get("hotwords") or "").split(",")]
        n_tracks = len(self._tracks)
        return Configure(
            format=AudioFormat("mulaw", RATE, n_tracks, split=n_tracks > 1),
            hotwords=tuple(word for word in words if word),
        )

    def _media(self, media: dict[str, Any]) -> Iterator[Action]:
        payload, track = media.get("payload"), media.get("track", "inbound")
        if not isinstance(payload, str):
            raise bad_request("media without a payload")
        try:
            data = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError) as error:
            raise bad_request(f"the payload is not base64: {error}") from None
        if len(self._tracks) == 1:
            if track == self._tracks[0]:
                yield Audio(data)
        elif isinstance(track, str) and track in self._tracks:
            self._waiting[track] += data
            yield from self._interleaved()

    def _interleaved(self, is_last: bool = False) -> Iterator[Action]:
        """What both tracks have, a sample of each in turn; silence for one that is far behind."""
        lengths = [len(waiting) for waiting in self._waiting.values()]
        length = max(min(lengths), max(lengths) - (0 if is_last else MAX_LAG))
        if length <= 0:
            return
        frames = bytearray(2 * length)
        for i, waiting in enumerate(self._waiting.values()):
            frames[i::2] = waiting[:length].ljust(length, _SILENCE)
            del waiting[:length]
        yield Audio(bytes(frames))

    def _transcript(self, event: StreamEvent) -> dict[str, Any]:
        transcript = {
            "text": event.text,
            "is_final": event.is_final,
            "track": self._tracks[event.segment.channel or 0],
            "start": round(event.start, 3),
            "end": round(event.end, 3),
            "confidence": round(mean_confidence(event.words), 4),
            "words": timed_words(event.words),
        }
        return {"event": "transcript", "streamSid": self._sid, "transcript": transcript}


def _object(request: dict[str, Any], name: str) -> dict[str, Any]:
    value = request.get(name)
    if not isinstance(value, dict):
        raise bad_request(f"{name} is not an object")
    return value

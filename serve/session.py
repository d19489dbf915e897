"""One live stream: messages are taken in, recognised in order, and answered.

    reader task -> bounded inbox -> parse -> actions -> recogniser's thread -> render -> client

A client that sends faster than the model computes is slowed down by TCP, since the inbox holds a
bounded number of bytes; one that does not read is closed. Whatever ends a stream (the client, a
limit, SIGTERM), what has arrived until then is recognised to its last word.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import numpy as np

from asr.audio import Waveform
from asr.errors import ASRError
from asr.recognizer import Recognizer
from asr.stream import EndpointConfig, Stream
from asr.types import StreamEvent
from serve import limits, logs
from serve.audio_in import AudioFormat, AudioInput, open_input
from serve.hotwords import Prepared, mark_unknown
from serve.hub import Hub, Loaded
from serve.limits import Refused
from serve.protocols.base import (
    Action,
    Audio,
    Configure,
    Finish,
    Flush,
    LiveProtocol,
    Outcome,
    Reply,
    Reset,
)

INBOX_BYTES = 1 << 20  # that wait to be recognised; a single message may be larger
_MIN_MESSAGE_BYTES = 256  # that an empty one counts
_JOINED_BYTES = 1 << 15
STOP_SECONDS = 0.5  # for what is on its way when the server ends
OVERLOAD_SECONDS = 30.0  # half a second of sound should be computed long before


class Gone(Exception):
    """The client has left: nothing can be sent any more."""


class Channel(Protocol):
    """How messages travel, whatever they mean."""

    async def receive(self) -> tuple[Any, int] | None:
        """The next message and its size in bytes; None: the client has left.

        Raises Refused for what is too big.
        """
        ...

    def stop(self) -> None:
        """Take in nothing more: `receive` gives what arrives within STOP_SECONDS, then None."""
        ...

    async def send(self, message: Any) -> None:
        """Raises Gone, or Refused if the client does not read."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """The end; nothing is sent or received afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class _Message:
    content: Any
    cost: int  # bytes in the inbox
    arrived: float


@dataclass(frozen=True, slots=True)
class _End:
    """Nothing more will come; `why` unless the client wanted it so."""

    why: Refused | None = None


class _Inbox:
    """A queue of messages that is full when it holds INBOX_BYTES."""

    def __init__(self) -> None:
        self._items: deque[_Message | _End] = deque()
        self._bytes = 0
        self._changed = asyncio.Condition()

    async def put(self, message: _Message) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._bytes < INBOX_BYTES)
            self._items.append(message)
            self._bytes += message.cost
            self._changed.notify_all()

    async def put_end(self, end: _End) -> None:
        async with self._changed:
            self._items.append(end)
            self._changed.notify_all()

    async def get(self, joined: bool) -> _Message | _End:
        """The next; `joined`: binary messages that wait one behind the other, as one."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._items) > 0)
            item = self._items.popleft()
            if isinstance(item, _Message):
                if joined and isinstance(item.content, bytes) and item.content:
                    item = self._with_followers(item)
                self._bytes -= item.cost
            self._changed.notify_all()
            return item

    def _with_followers(self, first: _Message) -> _Message:
        parts, cost = [first.content], first.cost
        while self._items and cost < _JOINED_BYTES:
            following = self._items[0]
            if isinstance(following, _End) or not isinstance(following.content, bytes):
                break
            if not following.content:
                break
            parts.append(following.content)
            cost += following.cost
            self._items.popleft()
        return _Message(b"".join(parts), cost, first.arrived)


@dataclass(frozen=True, slots=True)
class _Settings:
    """What `Configure` changes, beside hot words."""

    format: AudioFormat = field(default_factory=AudioFormat)
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    nbest: int = 1

    def open_stream(self, recognizer: Recognizer, sample_rate: int) -> Stream:
        """A stream with these settings."""
        return recognizer.stream(sample_rate=sample_rate, endpoint=self.endpoint, nbest=self.nbest)


class Session:
    """A client's stream from admission to the end: its inbox, recogniser, metrics and errors."""

    def __init__(self, hub: Hub, channel: Channel, protocol: LiveProtocol):
        self.protocol = protocol
        self.duration = 0.0  # seconds of audio taken in
        self._hub, self._channel = hub, channel
        self._settings = _Settings()
        self._prepared: Prepared | None = None  # where there are hot words
        self._input: AudioInput | None = None
        self._streams: list[Stream] = []  # one, or one for each channel
        self._stream_start = 0.0  # seconds of the session
        self._busy = 0.0  # seconds of computing
        self._inbox = _Inbox()
        self._arrived = time.monotonic()  # the message in work
        self._texts: list[str] = []  # of the finals
        self._gone = False  # the client has left
        self._end: Refused | None = None  # why the server wants the end

    @property
    def name(self) -> str:
        """The protocol's."""
        return self.protocol.name

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing per second of audio."""
        return self._busy / self.duration if self.duration else 0.0

    async def run(self, loaded: Loaded) -> None:
        """The whole stream, after admission (`Hub.admitted`)."""
        begin = time.monotonic()
        reader = asyncio.create_task(self._read(begin))
        try:
            error = await self._work(loaded)
            reader.cancel()  # what else comes is for the end of the connection
            if error is not None:
                self._hub.reject(error, protocol=self.name)
                with contextlib.suppress(Gone, Refused):
                    for message in self.protocol.on_error(error):
                        await self._send(message)
            code, reason = (error.code, error.message) if error else (limits.NORMAL, "")
            await self._channel.close(code, reason)
            self._log(code, time.monotonic() - begin)
        finally:
            reader.cancel()
            self._close_stream()

    def end(self, why: Refused) -> None:
        """Read nothing more; recognise what has arrived, send the last results, and close."""
        self._end = why
        self._channel.stop()

    async def _work(self, loaded: Loaded) -> Refused | None:
        """Until the end; returns why it came before the client wanted it."""
        error: Refused | None
        try:
            finished = await self._perform_all(loaded, self.protocol.on_open())
            error = None if finished else await self._take_messages(loaded)
        except Exception as raised:
            error = self._refusal(raised)
        self._arrived = time.monotonic()
        try:
            await self._perform(loaded, Finish())
        except Exception as raised:
            error = error or self._refusal(raised)
        return error

    async def _take_messages(self, loaded: Loaded) -> Refused | None:
        while True:
            item = await self._inbox.get(self.protocol.joins_audio)
            if isinstance(item, _End):
                return item.why
            self._arrived = item.arrived
            await asyncio.sleep(0)  # the others' turn, however fast messages come
            if await self._perform_all(loaded, self._parse(item.content)):
                return None

    def _parse(self, message: Any) -> list[Action]:
        """What a message asks for. Raises Refused for one that makes no sense."""
        with limits.nonsense_refused(self.name):
            return list(self.protocol.parse(message))

    async def _perform_all(self, loaded: Loaded, actions: Iterable[Action]) -> bool:
        """Perform actions one after the other; True: the client wants the end."""
        for action in actions:
            if isinstance(action, Finish):
                return True
            await self._perform(loaded, action)
        return False

    async def _perform(self, loaded: Loaded, action: Action) -> None:
        """Do what an action asks for, and tell its outcome."""
        events: list[StreamEvent] = []
        match action:
            case Reply(message):
                await self._send(message)
                return
            case Audio(data):
                events = await self._feed(loaded, data)
            case Flush():
                events = await self._end_utterance(loaded)
            case Reset():
                self._reset()
            case Configure():
                events = await self._configure(loaded, action)
            case Finish():
                events = await self._end_audio(loaded)
        skipped = self._prepared.skipped if self._prepared else ()
        outcome = Outcome(action, tuple(events), self.duration, self.real_time_factor, skipped)
        for message in self.protocol.render(outcome):
            await self._send(message)

    async def _send(self, message: Any) -> None:
        """To who has left, nothing is sent; what they said is recognised all the same."""
        if self._gone:
            return
        try:
            await self._channel.send(message)
        except Gone:
            self._gone = True

    async def _configure(self, loaded: Loaded, changes: Configure) -> list[StreamEvent]:
        """New settings, for a new stream; what was said until now ends with the old ones."""
        events = await self._end_audio(loaded)
        self._close_stream()
        if changes.hotwords is not None:
            self._prepared = await loaded.hotwords.prepare(changes.hotwords, changes.restricts)
        new = {f.name: getattr(changes, f.name) for f in fields(_Settings)}
        known = {name: value for name, value in new.items() if value is not None}
        self._settings = replace(self._settings, **known)
        return events

    async def _feed(self, loaded: Loaded, data: bytes) -> list[StreamEvent]:
        """What is understood from the next bytes of audio."""
        if self._input is None:
            limit = self._hub.settings.max_session_seconds
            self._input = open_input(self._settings.format, limit, loaded.decoders)
        return await self._recognize(loaded, self._input, self._input.feed(data))

    async def _end_utterance(self, loaded: Loaded) -> list[StreamEvent]:
        async with _overload():
            results = await asyncio.gather(*map(loaded.batcher.flush, self._streams))
        return self._account(results)

    async def _end_audio(self, loaded: Loaded) -> list[StreamEvent]:
        """Whatever is still held back anywhere comes out."""
        if self._input is None:
            return []
        events = await self._recognize(loaded, self._input, self._input.finish())
        return events + await self._end_utterance(loaded)

    def _reset(self) -> None:
        for stream in self._streams:
            stream.reset()
            self._stream_start = self.duration

    def _close_stream(self) -> None:
        if self._input is not None:
            self._input.close()
        for stream in self._streams:
            stream.close()
        self._input, self._streams = None, []

    async def _recognize(
        self, loaded: Loaded, source: AudioInput, blocks: AsyncIterator[Waveform]
    ) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        limit = self._hub.settings.max_session_seconds
        async for block in blocks:
            channels = block.T if block.ndim > 1 else block[None]
            if not self._streams:
                recognizer = self._prepared.recognizer if self._prepared else loaded.recognizer
                rate, settings = source.sample_rate, self._settings
                self._streams = [settings.open_stream(recognizer, rate) for _ in channels]
                self._stream_start = self.duration
            async with _overload():
                results = await asyncio.gather(
                    *map(loaded.batcher.feed, self._streams, map(np.ascontiguousarray, channels))
                )
            seconds = len(block) / source.sample_rate
            self.duration += seconds
            if self.duration > limit:  # of several inputs, one after the other
                raise limits.too_long(limit)
            self._hub.metrics.audio.labels(self.name).inc(seconds)
            events += self._account(results)
        return events

    def _account(self, results: Sequence[tuple[list[StreamEvent], float]]) -> list[StreamEvent]:
        """Count the results of all channels; give them the session's times."""
        self._busy += sum(busy for _, busy in results)
        events = _together([found for found, _ in results], self._prepared)
        latency = time.monotonic() - self._arrived
        for event in events:
            if event.is_final and event.text:
                self._hub.metrics.final.observe(latency)
                self._texts.append(event.text)
            elif not event.is_final:
                self._hub.metrics.partial.observe(latency)
        if not self._stream_start:
            return events
        return [_shifted(event, self._stream_start) for event in events]

    def _log(self, code: int, seconds: float) -> None:
        text = " ".join(self._texts)
        details: dict[str, Any] = {
            "protocol": self.name,
            "code": code,
            "client_left": self._gone,
            "seconds": round(seconds, 3),
            "heard": round(self.duration, 3),
            "real_time_factor": round(self.real_time_factor, 4),
            "words": len(text.split()),
        }
        if self._hub.settings.log_transcripts:
            details["text"] = text
        logs.event("closed", **details)

    def _refusal(self, error: Exception) -> Refused:
        if isinstance(error, Refused):
            return error
        if isinstance(error, ASRError):  # the audio, or a hot word, is not what it should be
            return limits.bad_request(str(error))
        self._hub.fault(self.name, error)
        return Refused("fault", "the server failed; the stream ends here", limits.FAULT, 500)

    async def _read(self, begin: float) -> None:
        settings = self._hub.settings
        patience = min(settings.idle_seconds, self.protocol.idle_seconds)
        left = settings.max_session_seconds
        why: Refused | None = None
        while why is None:
            try:
                async with asyncio.timeout(min(patience, left)):
                    received = await self._channel.receive()
            except TimeoutError:
                why = limits.idle(patience)
                if left < patience:
                    why = limits.too_long(settings.max_session_seconds)
                break
            except Refused as refused:
                why = refused
                break
            if received is None:
                why, self._gone = self._end, self._end is None
                break
            left = begin + settings.max_session_seconds - time.monotonic()
            content, size = received
            cost = max(size, _MIN_MESSAGE_BYTES)
            await self._inbox.put(_Message(content, cost, time.monotonic()))
            if left <= 0:
                why = limits.too_long(settings.max_session_seconds)
        await self._inbox.put_end(_End(why))


def _together(
    by_channel: Sequence[list[StreamEvent]], prepared: Prepared | None
) -> list[StreamEvent]:
    """The events of all channels, as a grammar tells them."""
    if len(by_channel) == 1:
        events = by_channel[0]
    else:
        events = [
            replace(event, segment=replace(event.segment, channel=channel))
            for channel, found in enumerate(by_channel)
            for event in found
        ]
    if prepared and prepared.words:
        return [mark_unknown(event, prepared.words) for event in events]
    return events


def _shifted(event: StreamEvent, seconds: float) -> StreamEvent:
    """The same result that much later."""

    def later(part: Any) -> Any:
        return replace(part, start=part.start + seconds, end=part.end + seconds)

    segment = later(event.segment)
    return replace(
        event,
        segment=replace(segment, words=tuple(map(later, segment.words))),
        spikes=tuple(replace(spike, time=spike.time + seconds) for spike in event.spikes),
    )


@contextlib.asynccontextmanager
async def _overload() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(OVERLOAD_SECONDS):
            yield
    except TimeoutError:
        message = "the server is overloaded, try again later"
        raise Refused("overloaded", message, limits.TRY_LATER, 503) from None

"""One live stream: what a client says is taken in, heard in order, and answered.

    reader task -> bounded inbox -> one consumer -> recogniser's thread -> protocol -> client

A client that sends faster than the model hears is slowed down by TCP, since the inbox holds a
bounded number of bytes; one that does not read is closed. Whatever ends a stream (the client, a
limit, SIGTERM), what has arrived until then is heard to its last word.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from starlette.datastructures import QueryParams

from asr.audio import Waveform
from asr.errors import ASRError
from asr.stream import EndpointConfig, Stream
from asr.types import StreamEvent
from serve import limits, logs
from serve.audio_in import AudioInput, ContainerInput
from serve.hub import Hub
from serve.limits import Refused

INBOX_BYTES = 1 << 20  # that wait to be heard; a single message may be larger
_JOINED_BYTES = 1 << 15
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

    async def send(self, message: Any) -> None:
        """Raises Gone, or Refused if the client does not read."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """The end; nothing is sent or received afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class _Message:
    content: Any
    size: int
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
            self._bytes += message.size
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
                self._bytes -= item.size
            self._changed.notify_all()
            return item

    def _with_followers(self, first: _Message) -> _Message:
        parts, size = [first.content], first.size
        while self._items and size < _JOINED_BYTES:
            following = self._items[0]
            if isinstance(following, _End) or not isinstance(following.content, bytes):
                break
            if not following.content:
                break
            parts.append(following.content)
            size += following.size
            self._items.popleft()
        return _Message(b"".join(parts), size, first.arrived)


class Conversation(ABC):
    """What a client and the server say to each other; each protocol has a subclass.

    `handle` is called with one message after the other. It calls `hear` with what is sound, and
    `send`s what its protocol wants to be said about the events.

    Raises Refused for a `query` that cannot be met.
    """

    name: ClassVar[str]
    idle_seconds: ClassVar[float] = math.inf  # if shorter than the settings'
    most_message_bytes: ClassVar[int] = 0  # if more than the settings'
    # Sound that waits, since the model is behind, is heard at once: long blocks cost less.
    joins: ClassVar[bool] = False

    def __init__(self, hub: Hub, channel: Channel, query: QueryParams):
        self.hub = hub
        self.channel = channel
        self.input: AudioInput | None = None
        self.hotwords: tuple[str, ...] = ()
        self.endpoint = EndpointConfig()
        self.heard = 0.0  # seconds of sound
        self._busy = 0.0  # seconds of computing
        self._stream: Stream | None = None
        self._inbox = _Inbox()
        self._arrived = time.monotonic()  # the message that is being handled
        self._said: list[str] = []
        self._gone = False
        self._reader: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def greet(self) -> None:
        """Say something before the client does."""
        return

    @abstractmethod
    async def handle(self, message: Any) -> bool:
        """Answer a message. False: that was the last, the client wants the end."""

    @abstractmethod
    async def finish(self) -> None:
        """Nothing more will be heard: send the last results."""

    async def complain(self, refused: Refused) -> None:
        """Tell the client, in its own language, why the stream ends before it wanted."""
        return

    @property
    def started(self) -> bool:
        """Some sound has been heard: its format can't change any more."""
        return self._stream is not None

    @property
    def real_time_factor(self) -> float:
        """Seconds of computing for a second of sound."""
        return self._busy / self.heard if self.heard else 0.0

    async def run(self) -> None:
        """The whole conversation, after admission."""
        begin = time.monotonic()
        self._reader = asyncio.create_task(self._read(begin))
        try:
            end = await self._converse()
            if end is not None:
                self.hub.reject(end, protocol=self.name)
                with contextlib.suppress(Gone, Refused):
                    await self.complain(end)
            code, reason = (end.code, end.message) if end else (limits.NORMAL, "")
            if not self._gone:
                await self.channel.close(code, reason)
            self._log(code, time.monotonic() - begin)
        finally:
            self._reader.cancel()
            if self.input is not None:
                self.input.close()
            if self._stream is not None:
                self._stream.close()

    def end(self, why: Refused) -> None:
        """Read nothing more; hear what has arrived, send the last results, and close."""
        if self._reader is not None:
            self._reader.cancel()
        task = asyncio.create_task(self._inbox.put_end(_End(why)))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def send(self, message: Any) -> None:
        """To who has left, nothing is said; what they said is heard all the same."""
        if self._gone:
            return
        try:
            await self.channel.send(message)
        except Gone:
            self._gone = True

    async def hear(self, data: bytes) -> list[StreamEvent]:
        """What is understood from the next bytes of sound."""
        assert self.input is not None, "the protocol has not said how the sound is encoded"
        return await self._listen(self.input.feed(data))

    async def flush(self) -> list[StreamEvent]:
        """End the utterance here and now; more sound may follow."""
        if self._stream is None:
            return []
        async with _overload():
            events, busy = await self.hub.batcher.flush(self._stream)
        return self._account(events, busy)

    async def rest(self) -> list[StreamEvent]:
        """The end of the sound: whatever is still held back anywhere."""
        if self.input is None:
            return []
        return await self._listen(self.input.finish()) + await self.flush()

    def forget(self) -> None:
        """What has been heard since the last final is dropped."""
        if self._stream is not None:
            self._stream.reset()

    def begin_anew(self, input: AudioInput) -> None:
        """What comes now is another recording, with times of its own."""
        if self.input is not None:
            self.input.close()
        if self._stream is not None:
            self._stream.close()
        self.input, self._stream = input, None

    async def _listen(self, blocks: Iterator[Waveform]) -> list[StreamEvent]:
        assert self.input is not None
        events: list[StreamEvent] = []
        async for block in _steps(blocks, blocking=isinstance(self.input, ContainerInput)):
            if self._stream is None:
                self._stream = self.hub.recognizer.stream(
                    sample_rate=self.input.sample_rate,
                    hotwords=self.hotwords,
                    endpoint=self.endpoint,
                )
            async with _overload():
                new, busy = await self.hub.batcher.feed(self._stream, block)
            seconds = len(block) / self.input.sample_rate
            self.heard += seconds
            self.hub.metrics.audio.labels(self.name).inc(seconds)
            events += self._account(new, busy)
        return events

    def _account(self, events: list[StreamEvent], busy: float) -> list[StreamEvent]:
        self._busy += busy
        latency = time.monotonic() - self._arrived
        for event in events:
            if event.is_final and event.text:
                self.hub.metrics.final.observe(latency)
                self._said.append(event.text)
            elif not event.is_final:
                self.hub.metrics.partial.observe(latency)
        return events

    def _log(self, code: int, seconds: float) -> None:
        text = " ".join(self._said)
        details: dict[str, Any] = {
            "protocol": self.name,
            "code": code,
            "client_left": self._gone,
            "seconds": round(seconds, 3),
            "heard": round(self.heard, 3),
            "real_time_factor": round(self.real_time_factor, 4),
            "words": len(text.split()),
        }
        if self.hub.settings.log_transcripts:
            details["text"] = text
        logs.event("closed", **details)

    async def _converse(self) -> Refused | None:
        """Until the end; returns why it came before the client wanted it."""
        why: Refused | None
        try:
            await self.greet()
            while True:
                item = await self._inbox.get(self.joins)
                if isinstance(item, _End):
                    why = item.why
                    break
                self._arrived = item.arrived
                if not await self.handle(item.content):
                    why = None
                    break
        except Exception as error:
            why = self._refusal(error)
        self._arrived = time.monotonic()
        try:
            await self.finish()
        except Exception as error:
            why = why or self._refusal(error)
        return why

    def _refusal(self, error: Exception) -> Refused:
        if isinstance(error, Refused):
            return error
        if isinstance(error, ASRError):  # the sound, or a hot word, is not what it should be
            return limits.bad_request(str(error))
        self.hub.fault(self.name, error)
        return Refused("fault", "the server failed; the stream ends here", limits.FAULT, 500)

    async def _read(self, begin: float) -> None:
        settings = self.hub.settings
        patience = min(settings.idle_seconds, self.idle_seconds)
        left = settings.max_session_seconds
        why: Refused | None = None
        while why is None:
            try:
                async with asyncio.timeout(min(patience, left)):
                    received = await self.channel.receive()
            except TimeoutError:
                why = limits.idle(patience)
                if left < patience:
                    why = limits.too_long(settings.max_session_seconds)
                break
            except Refused as refused:
                why = refused
                break
            if received is None:
                self._gone = True
                break
            left = begin + settings.max_session_seconds - time.monotonic()
            await self._inbox.put(_Message(*received, time.monotonic()))
            if left <= 0:
                why = limits.too_long(settings.max_session_seconds)
        await self._inbox.put_end(_End(why))


@contextlib.asynccontextmanager
async def _overload() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(OVERLOAD_SECONDS):
            yield
    except TimeoutError:
        message = "the server is overloaded, try again later"
        raise Refused("overloaded", message, limits.TRY_LATER, 503) from None


async def _steps(blocks: Iterator[Waveform], blocking: bool) -> AsyncIterator[Waveform]:
    """The blocks; where making one may take a while, it is made on another thread."""
    while True:
        block = await asyncio.to_thread(next, blocks, None) if blocking else next(blocks, None)
        if block is None:
            return
        yield block

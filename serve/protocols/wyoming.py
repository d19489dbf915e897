"""Wyoming, the protocol of Home Assistant: TCP, a JSON line, then data, then sound.

    C describe                                   S info
    C transcribe, audio-start, audio-chunk …, audio-stop       S transcript
    C ping                                       S pong

It knows neither keys nor TLS: whoever reaches the port may use it. The library reads as many bytes
as a client promises; here all lengths are bounded.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, ClassVar

from starlette.datastructures import QueryParams
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.ping import Ping, Pong

import asr
from serve import limits
from serve.audio_in import MOST_CHANNELS, open_input
from serve.hub import Hub
from serve.limits import Refused, bad_request
from serve.protocols._values import check_language, finals, number, parse_object
from serve.session import Channel, Conversation, Gone

MOST_HEADER_BYTES = 1 << 16
_ENCODINGS = {2: "s16le", 4: "f32le"}  # by bytes a sample


class WyomingConversation(Conversation):
    """One client."""

    name: ClassVar[str] = "wyoming"

    def __init__(self, hub: Hub, channel: Channel, query: QueryParams):
        super().__init__(hub, channel, query)
        self._utterance: list[str] = []  # its finals

    async def handle(self, message: Any) -> bool:
        """See Conversation."""
        event: Event = message
        if Describe.is_type(event.type):
            await self.send(_info(self.hub).event())
        elif Transcribe.is_type(event.type):
            check_language(Transcribe.from_event(event).language, self.hub.language)
        elif AudioStart.is_type(event.type):
            self._open(event)
        elif AudioChunk.is_type(event.type):
            if self.input is None:
                self._open(event)
            self._utterance += [e.text for e in finals(await self.hear(event.payload or b""))]
        elif AudioStop.is_type(event.type):
            await self._transcript()
        elif Ping.is_type(event.type):
            await self.send(Pong(text=Ping.from_event(event).text).event())
        # Others are for other services of the protocol, which is how it wants to be extended.
        return True

    async def finish(self) -> None:
        """See Conversation."""
        self._utterance += [event.text for event in finals(await self.rest())]
        if self._utterance:
            await self._transcript()

    async def complain(self, refused: Refused) -> None:
        """See Conversation."""
        await self.send(Error(text=refused.message, code=refused.reason).event())

    def _open(self, event: Event) -> None:
        """An utterance begins, in a format of its own."""
        try:
            rate, width, channels = (event.data[key] for key in ("rate", "width", "channels"))
        except KeyError as error:
            raise bad_request(f"{event.type} without {error}") from None
        if width not in _ENCODINGS:
            raise bad_request(f"samples of {width!r:.10} bytes: 2 or 4 are possible")
        self.begin_anew(
            open_input(
                _ENCODINGS[width],
                round(number(rate, "rate", 1, 1e6)),
                round(number(channels, "channels", 1, MOST_CHANNELS)),
                self.hub.settings.max_session_seconds,
            )
        )
        self._utterance = []

    async def _transcript(self) -> None:
        self._utterance += [event.text for event in finals(await self.rest())]
        text, self._utterance = " ".join(self._utterance), []
        await self.send(Transcript(text=text, language=self.hub.language).event())


class WyomingChannel:
    """Events over TCP."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        most_bytes: int,
        send_seconds: float,
    ):
        self._reader, self._writer = reader, writer
        self._most_bytes = most_bytes
        self._send_seconds = send_seconds

    async def receive(self) -> tuple[Event, int] | None:
        """See Channel."""
        try:
            line = await self._reader.readuntil()
            header = parse_object(line)
            data_bytes = await self._more(header, "data_length", MOST_HEADER_BYTES)
            payload = await self._more(header, "payload_length", self._most_bytes)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        except asyncio.LimitOverrunError:
            raise limits.too_big("the header", MOST_HEADER_BYTES) from None
        kind, data = header.get("type"), header.get("data") or {}
        if not isinstance(kind, str) or not isinstance(data, dict):
            raise bad_request("an event has a type, and data is an object")
        if data_bytes:
            data = {**data, **parse_object(data_bytes)}
        return Event(kind, data, payload or None), len(line) + len(data_bytes) + len(payload)

    async def send(self, message: Event) -> None:
        """See Channel."""
        try:
            async with asyncio.timeout(self._send_seconds):
                await async_write_event(message, self._writer)
        except TimeoutError:
            raise limits.slow_reader() from None
        except (ConnectionError, RuntimeError):
            raise Gone from None

    async def close(self, code: int, reason: str) -> None:
        """See Channel; the protocol has no codes, `Conversation.complain` told the reason."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._send_seconds):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            self._writer.transport.abort()

    async def _more(self, header: dict[str, Any], key: str, most: int) -> bytes:
        length = header.get(key) or 0
        if not isinstance(length, int) or length < 0:
            raise bad_request(f"{key} is {length!r:.20}")
        if length > most:
            raise limits.too_big("an event", most)
        return await self._reader.readexactly(length)


async def listen(hub: Hub, address: socket.socket) -> asyncio.Server:
    """Serve the protocol on a bound socket."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = hub.settings
        channel = WyomingChannel(reader, writer, settings.max_message_bytes, settings.send_seconds)
        conversation = WyomingConversation(hub, channel, QueryParams())
        try:
            with hub.admitted(conversation):
                await conversation.run()
        except Refused as refused:
            hub.reject(refused, protocol=WyomingConversation.name)
            await conversation.complain(refused)
        except Exception as error:  # one client's fault is nobody else's
            hub.fault(WyomingConversation.name, error)
        finally:
            await channel.close(limits.NORMAL, "")

    return await asyncio.start_server(client, sock=address, limit=MOST_HEADER_BYTES)


def _info(hub: Hub) -> Info:
    ours = Attribution(name="blstm-ctc-asr", url="https://arxiv.org/abs/1303.5778")
    model = AsrModel(
        name=hub.model,
        attribution=ours,
        installed=True,
        description=f"Bidirectional LSTM and CTC, {hub.language}",
        version=asr.__version__,
        languages=[hub.language],
    )
    program = AsrProgram(
        name="blstm-ctc-asr",
        attribution=ours,
        installed=True,
        description="Speech recognition with deep bidirectional LSTMs and CTC",
        version=asr.__version__,
        models=[model],
    )
    return Info(asr=[program])

"""Wyoming over TCP: events of bounded length, one connection after the other.

The library reads as many bytes as a client promises; here all lengths are bounded.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

from starlette.datastructures import QueryParams
from wyoming.event import Event, async_write_event

from serve import limits
from serve.hub import Hub
from serve.limits import Refused, bad_request
from serve.protocols.values import parse_object
from serve.protocols.wyoming import WyomingProtocol
from serve.session import STOP_SECONDS, Gone, Session

MAX_HEADER_BYTES = 1 << 16


class TcpChannel:
    """Events over TCP."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        max_bytes: int,
        send_seconds: float,
    ):
        self._reader, self._writer = reader, writer
        self._max_bytes = max_bytes
        self._send_seconds = send_seconds

    async def receive(self) -> tuple[Event, int] | None:
        """See Channel."""
        try:
            line = await self._reader.readuntil()
            header = parse_object(line)
            data_bytes = await self._more(header, "data_length", MAX_HEADER_BYTES)
            payload = await self._more(header, "payload_length", self._max_bytes)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        except asyncio.LimitOverrunError:
            raise limits.too_big("the header", MAX_HEADER_BYTES) from None
        kind, data = header.get("type"), header.get("data") or {}
        if not isinstance(kind, str) or not isinstance(data, dict):
            raise bad_request("an event has a type, and data is an object")
        if data_bytes:
            data = {**data, **parse_object(data_bytes)}
        return Event(kind, data, payload or None), len(line) + len(data_bytes) + len(payload)

    def stop(self) -> None:
        """See Channel."""
        asyncio.get_running_loop().call_later(STOP_SECONDS, self._reader.feed_eof)

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
        """See Channel; the protocol has no codes, `on_error` told the reason."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._send_seconds):
                await self._writer.wait_closed()
        except (TimeoutError, ConnectionError):
            self._writer.transport.abort()

    async def _more(self, header: dict[str, Any], key: str, limit: int) -> bytes:
        length = header.get(key) or 0
        if not isinstance(length, int) or length < 0:
            raise bad_request(f"{key} is {length!r:.20}")
        if length > limit:
            raise limits.too_big("an event", limit)
        return await self._reader.readexactly(length)


async def listen(hub: Hub, address: socket.socket) -> asyncio.Server:
    """Serve the protocol on a bound socket."""
    return await asyncio.start_server(partial(_serve, hub), sock=address, limit=MAX_HEADER_BYTES)


async def connect(hub: Hub, connection: socket.socket) -> None:
    """Serve it on a connection that was accepted elsewhere."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(MAX_HEADER_BYTES, loop)
    protocol = asyncio.StreamReaderProtocol(reader, partial(_serve, hub), loop)
    await loop.connect_accepted_socket(lambda: protocol, connection)


async def _serve(hub: Hub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    settings = hub.settings
    channel = TcpChannel(reader, writer, settings.max_message_bytes, settings.send_seconds)
    protocol = WyomingProtocol(hub.info, QueryParams())
    session = Session(hub, channel, protocol)
    hub.open_connections += 1
    try:
        with hub.admitted(session) as loaded:
            await session.run(loaded)
    except Refused as refused:
        hub.reject(refused, protocol=protocol.name)
        for message in protocol.on_error(refused):
            await channel.send(message)
    except Exception as error:  # one client's fault is nobody else's
        hub.fault(protocol.name, error)
    finally:
        hub.open_connections -= 1
        await channel.close(limits.NORMAL, "")

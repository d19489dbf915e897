"""Live streams over WebSockets: how a client is let in, and how messages travel.

Frames are `websockets`' (its protocol without I/O). What has arrived is parsed when the session
wants a message, in small pieces and only while answers can be written: so neither a flood of empty
frames nor one of pings fills the memory or holds the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import QueryParams
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN, SERVER
from websockets.protocol import Protocol as FrameProtocol
from websockets.server import ServerProtocol

from serve import limits
from serve.auth import answered_subprotocol, presented_key
from serve.hub import Hub, Loaded
from serve.limits import Refused, nonsense_refused
from serve.protocols.base import LiveProtocol
from serve.session import STOP_SECONDS, Gone, Session

PING_SECONDS = 20.0  # routers forget connections on which nothing travels
LINGER_SECONDS = 10.0  # for a client to take the end of a connection
_SILENCE_SECONDS = 0.5  # after a frame that is none: then nothing more comes
_PIECE_BYTES = 4096  # parsed at a time
_READ_AHEAD_BYTES = 1 << 18
_MAX_REASON_BYTES = 120  # a close frame holds 123
_logger = logging.getLogger("asr.serve.websocket")
_logger.setLevel(logging.CRITICAL)  # what goes wrong with a connection, the session tells


class WebSocketChannel(asyncio.Protocol):
    """One connection after its handshake; see `serve.session.Channel`.

    Messages of more than `max_bytes` are refused; if they are less than twice as long, the session
    can send its last results before.
    """

    def __init__(self, transport: asyncio.Transport, hub: Hub, max_bytes: int):
        self._transport, self._hub = transport, hub
        self._max_bytes, self._send_seconds = max_bytes, hub.settings.send_seconds
        self._frames = FrameProtocol(SERVER, max_size=2 * max_bytes, logger=_logger)
        self._received = bytearray()  # not parsed yet
        self._messages: deque[str | bytes] = deque()
        self._message = bytearray()  # the fragments of one
        self._is_text = False
        self._arrived = asyncio.Event()  # bytes, or the end of the connection
        self._writable = asyncio.Event()
        self._writable.set()
        self._ended = self._stopped = False
        self._loop = asyncio.get_running_loop()
        self._pinging = self._loop.call_later(PING_SECONDS, self._ping)

    # What the event loop calls.

    def data_received(self, data: bytes) -> None:
        """Keep bytes until somebody wants a message."""
        self._received += data
        if len(self._received) >= _READ_AHEAD_BYTES:
            self._transport.pause_reading()
        self._arrived.set()

    def eof_received(self) -> None:
        """The client writes nothing more."""
        self._ended = True
        self._arrived.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing can be read or written any more."""
        self._ended = True
        self._hub.open_connections -= 1
        self._pinging.cancel()
        self._arrived.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """The client does not read what is sent."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._writable.set()

    # What a session calls.

    async def receive(self) -> tuple[str | bytes, int] | None:
        """See Channel."""
        while not self._messages:
            if self._frames.state is not OPEN:
                self._check_frames()
                return None
            if not await self._parse_piece():
                return None
        message = self._messages.popleft()
        if len(message) > self._max_bytes:
            raise limits.too_big("the message", self._max_bytes)
        return message, len(message)

    def stop(self) -> None:
        """See Channel."""
        self._loop.call_later(STOP_SECONDS, self._stop_reading)

    def _stop_reading(self) -> None:
        self._stopped = True
        if not self._transport.is_closing():
            self._transport.pause_reading()
        self._arrived.set()

    async def send(self, message: str | dict[str, Any]) -> None:
        """See Channel."""
        text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        if self._frames.state is not OPEN or self._transport.is_closing():
            raise Gone
        self._frames.send_text(text.encode(errors="replace"))
        self._write()
        try:
            async with asyncio.timeout(self._send_seconds):
                await self._writable.wait()
        except TimeoutError:
            raise limits.slow_reader() from None

    async def close(self, code: int, reason: str) -> None:
        """See Channel; waits until the client has taken it, since unread bytes would reset the
        connection, and the client would not learn why.
        """
        self._stopped = False
        if self._frames.state is OPEN:
            short = reason.encode(errors="replace")[:_MAX_REASON_BYTES].decode(errors="ignore")
            self._frames.send_close(code, short)
            self._write()
        patience = _SILENCE_SECONDS if self._frames.parser_exc else LINGER_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while self._frames.close_rcvd is None:
                    async with asyncio.timeout(patience):
                        if not await self._parse_piece():
                            break
                    self._messages.clear()

    def release(self) -> None:
        """Close the connection, if need be with what the client does not read."""
        self._transport.close()
        self._loop.call_later(LINGER_SECONDS, self._transport.abort)

    def _check_frames(self) -> None:
        """Raises Refused if it was the client's frames that ended the connection."""
        error = self._frames.parser_exc
        if isinstance(error, PayloadTooBig):
            raise limits.too_big("the message", self._max_bytes)
        if error is not None:
            raise Refused("bad_frame", f"not a WebSocket's: {error}"[:200], limits.PROTOCOL)

    async def _parse_piece(self) -> bool:
        """Wait for bytes and parse some; False: there will be none."""
        await self._writable.wait()
        if not self._received:
            if self._ended or self._stopped:
                return False
            self._arrived.clear()
            if not self._transport.is_closing():
                self._transport.resume_reading()
            await self._arrived.wait()
            return True
        piece = bytes(self._received[:_PIECE_BYTES])
        del self._received[:_PIECE_BYTES]
        self._frames.receive_data(piece)
        for event in self._frames.events_received():
            assert isinstance(event, Frame)
            self._take(event)
        self._write()
        await asyncio.sleep(0)  # the others' turn
        return True

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text = frame.opcode is Opcode.TEXT
            self._message = bytearray(frame.data)
        elif frame.opcode is Opcode.CONT:
            self._message += frame.data
        else:
            return
        if not frame.fin:
            return
        message, self._message = bytes(self._message), bytearray()
        if not self._is_text:
            self._messages.append(message)
            return
        try:
            self._messages.append(message.decode())
        except UnicodeDecodeError as error:
            self._frames.parser_exc = error
            if self._frames.state is OPEN:
                self._frames.fail(limits.INVALID_TEXT, "text is UTF-8")

    def _write(self) -> None:
        data = b"".join(self._frames.data_to_send())
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _ping(self) -> None:
        if self._frames.state is OPEN and self._writable.is_set():
            self._frames.send_ping(b"")
            self._write()
        self._pinging = self._loop.call_later(PING_SECONDS, self._ping)


def open_protocol(
    hub: Hub, kind: type[LiveProtocol], authorization: str, subprotocols: list[str], query: bytes
) -> LiveProtocol | None:
    """The protocol that a client asks for; None if it has no key. Raises Refused for a query that
    makes no sense."""
    key = presented_key({"authorization": authorization}, subprotocols)
    settings = hub.client_secrets.read(key)
    if settings is None and not hub.keys.accept(key):
        return None
    with nonsense_refused(kind.name):
        protocol = kind(hub.info, QueryParams(query))
        if settings is not None:
            protocol.restore(settings)
        return protocol


class Handshake:
    """A request to open a live stream. Raises Refused if it cannot be granted.

    A wrong key gives close code 1008 after the handshake, since browsers show pages nothing of
    what HTTP says.
    """

    def __init__(self, hub: Hub, kind: type[LiveProtocol], request: Request, query: bytes):
        self._hub = hub
        self._accepted = ServerProtocol(logger=_logger).accept(request)
        if self._accepted.status_code != 101:
            reason = (self._accepted.body or b"").decode().partition("\n")[0]
            raise Refused("handshake", reason, status=self._accepted.status_code)
        offered = request.headers.get_all("sec-websocket-protocol")
        self._subprotocols = [name.strip() for value in offered for name in value.split(",")]
        self._max_bytes = max(hub.settings.max_message_bytes, kind.max_message_bytes)
        self._kind = kind
        authorization = request.headers.get("authorization", "")
        self._protocol = open_protocol(hub, kind, authorization, self._subprotocols, query)

    def open(self, transport: asyncio.Transport, rest: bytes) -> asyncio.Task[None]:
        """Answer, take the connection over, and run the session; `rest` has already been read."""
        hub, held = self._hub, contextlib.ExitStack()
        channel = WebSocketChannel(transport, hub, self._max_bytes)
        session = loaded = None
        if self._protocol is not None:
            session = Session(hub, channel, self._protocol)
            loaded = held.enter_context(hub.admitted(session))
        transport.write(self._answer().serialize())
        transport.set_protocol(channel)
        if rest:
            channel.data_received(rest)
        return asyncio.create_task(self._run(channel, session, loaded, held))

    async def _run(
        self,
        channel: WebSocketChannel,
        session: Session | None,
        loaded: Loaded | None,
        held: contextlib.ExitStack,
    ) -> None:
        try:
            with held:
                if session is not None and loaded is not None:
                    await session.run(loaded)
                else:
                    refused = limits.unauthorized()
                    self._hub.reject(refused, protocol=self._kind.name)
                    await channel.close(refused.code, refused.message)
        except Exception as error:  # one client's fault is nobody else's
            self._hub.fault(self._kind.name, error)
        finally:
            channel.release()

    def _answer(self) -> Response:
        own: Mapping[str, str] = self._protocol.headers if self._protocol else {}
        for name, value in own.items():
            self._accepted.headers[name] = value
        if subprotocol := answered_subprotocol(self._subprotocols):
            self._accepted.headers["Sec-WebSocket-Protocol"] = subprotocol
        return self._accepted

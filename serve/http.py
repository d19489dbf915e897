"""Limits on HTTP below the framework: what a connection may cost before anybody has read a request.

uvicorn's protocol bounds neither headers nor targets, and waits for ever. This one counts the bytes
since its parser last told anything (httptools tells each header when it is complete), on every
request of a connection, and gives each request a time to arrive. Handshakes of WebSockets are
answered here as well: whatever is wrong with them, the client gets an HTTP response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools
from starlette.datastructures import Headers
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from websockets.datastructures import Headers as HandshakeHeaders
from websockets.http11 import Request as HandshakeRequest

from serve import limits
from serve.hub import Hub
from serve.limits import Refused
from serve.protocols.base import LiveProtocol
from serve.websocket import Handshake

REQUEST_SECONDS = 20.0  # for the head of a request to arrive
LINGER_SECONDS = 1.0  # after a refusal: the client reads it before the connection breaks
MAX_TARGET_BYTES = 1 << 16  # 200 hot words are a long query
MAX_HEADERS = 100
MAX_HEADERS_BYTES = 1 << 15
MAX_PIPELINED = 16
_MAX_DROPPED_BYTES = 1 << 20  # of what still comes after a refusal


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        hub: whose sites may use the server, and where sessions live.
        live: the protocols of live streams by path.
    """

    def __init__(self, *, hub: Hub, live: Mapping[str, type[LiveProtocol]], **options: Any):
        super().__init__(**options)
        self._hub, self._live = hub, live
        self._refusal: Refused | None = None  # why the parser was stopped
        self._refused = False  # and the client has been told
        self._unparsed = 0  # bytes since the parser told anything
        self._headers_size = 0
        self._arriving = False  # a request, its body included
        self._waiting_since: float | None = None  # for a request to arrive
        self._unsent, self._unsent_since = 0, 0.0  # bytes that the client does not read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request may take its time, too."""
        super().connection_made(transport)
        self._hub.open_connections += 1
        self._waiting_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended; that of a live stream ends elsewhere."""
        super().connection_lost(exc)
        self._hub.open_connections -= 1

    def data_received(self, data: bytes) -> None:
        """Parse; refuse what is no request, or too much of one."""
        if self._refused:
            self._unparsed += len(data)
            if self._unparsed > _MAX_DROPPED_BYTES:
                self.transport.pause_reading()
            return
        self._unset_keepalive_if_required()
        if self._waiting_since is None and not self._in_work:
            self._waiting_since = self.loop.time()
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._should_upgrade():
                self._open_stream(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(self._refusal or limits.bad_request("this is no request of HTTP/1.1"))
        else:
            if self._unparsed > MAX_TARGET_BYTES + MAX_HEADERS_BYTES:
                self._refuse(limits.headers_too_large())

    def check(self, now: float, send_seconds: float) -> None:
        """Close the connection if it waits for its client for too long; called now and then."""
        if self._waiting_since is not None and now - self._waiting_since > REQUEST_SECONDS:
            self.transport.close()
        unsent = self.transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent or not self._unsent:
            self._unsent_since = now
        elif now - self._unsent_since > send_seconds:
            self.transport.abort()
        self._unsent = unsent

    @property
    def _in_work(self) -> bool:
        """A request has arrived and is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    # What the parser tells.

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._unparsed = self._headers_size = 0
        self._arriving = True

    def on_url(self, url: bytes) -> None:
        """Some of the target."""
        super().on_url(url)
        self._headers_size = len(self.url)
        if len(self.url) > MAX_TARGET_BYTES:
            self._stop(limits.target_too_long(MAX_TARGET_BYTES))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or (after the body) a trailer."""
        super().on_header(name, value)
        self._headers_size += len(name) + len(value)
        size = self._headers_size - len(self.url)
        if len(self.headers) > MAX_HEADERS or size > MAX_HEADERS_BYTES:
            self._stop(limits.headers_too_large())

    def on_headers_complete(self) -> None:
        """The head is complete: the application's turn, or that of a handshake."""
        self._unparsed = 0
        self._waiting_since = None
        names = dict(self.headers)
        if self._should_upgrade():
            if names.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in names:
                self._stop(limits.bad_request("a handshake has no body"))
        elif len(self.pipeline) >= MAX_PIPELINED:
            self._stop(limits.full())
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request has arrived."""
        self._unparsed = 0
        self._arriving = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """What is left of a request that was answered early has to arrive, too."""
        super().on_response_complete()
        if self._arriving and not self._in_work:
            self._waiting_since = self.loop.time()

    def _stop(self, refused: Refused) -> None:
        self._refusal = refused
        raise refused  # which stops the parser

    def _refuse(self, refused: Refused) -> None:
        """Answer and close."""
        self._refused = True
        self._unparsed = 0
        self._hub.reject(refused)
        if self._in_work:  # its answer cannot be told from this one
            self.transport.abort()
            return
        response = refused.response()
        head = b"".join(b"%b: %b\r\n" % header for header in response.raw_headers)
        phrase = HTTPStatus(response.status_code).phrase
        status = f"HTTP/1.1 {response.status_code} {phrase}\r\n".encode()
        self.transport.write(status + head + b"connection: close\r\n\r\n" + bytes(response.body))
        self._waiting_since = None
        # To close with data unread would reset the connection, and the answer might be lost.
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _open_stream(self, rest: bytes) -> None:
        """A handshake: check it, and hand the connection over."""
        target, _, query = self.url.partition(b"?")
        path = unquote(target.decode("latin-1"))
        try:
            if self._in_work:
                raise limits.bad_request("a handshake waits for the answer before")
            self._hub.sites.check(Headers(raw=self.headers))
            if self.scope["method"] != "GET":
                raise limits.bad_request("a handshake is a GET request")
            kind = self._live.get(path)
            if kind is None:
                raise limits.not_found(path)
            headers = HandshakeHeaders(
                [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers]
            )
            request = HandshakeRequest(self.url.decode("latin-1"), headers)
            task = Handshake(self._hub, kind, request, query).open(self.transport, rest)
        except Refused as refused:
            self._refuse(refused)
            return
        except Exception as error:
            self._hub.fault(path[:100], error)
            self._refuse(Refused("fault", "the server failed", limits.FAULT, 500))
            return
        self.connections.discard(self)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

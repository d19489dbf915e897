"""Live streams over WebSockets: who is let in, and how messages travel."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from serve import limits
from serve.auth import answered_subprotocol, origin_allowed, presented_key
from serve.hub import Hub
from serve.limits import RETRY_AFTER, Refused
from serve.protocols.base import LiveProtocol
from serve.session import Gone, Session

_MAX_REASON_BYTES = 120  # a close frame holds 123


class WebSocketChannel:
    """Text and binary messages in, text or JSON out."""

    def __init__(self, websocket: WebSocket, max_bytes: int, send_seconds: float):
        self._websocket = websocket
        self._max_bytes = max_bytes
        self._send_seconds = send_seconds

    async def receive(self) -> tuple[str | bytes, int] | None:
        """See Channel."""
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            return None
        content = message.get("bytes")
        if content is None:
            content = message.get("text") or ""
        if len(content) > self._max_bytes:
            raise limits.too_big("the message", self._max_bytes)
        return content, len(content)

    async def send(self, message: str | dict[str, Any]) -> None:
        """See Channel."""
        text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        try:
            async with asyncio.timeout(self._send_seconds):
                await self._websocket.send_text(text)
        except TimeoutError:
            raise limits.slow_reader() from None
        except (WebSocketDisconnect, RuntimeError):  # Starlette's word for: closed already
            raise Gone from None

    async def close(self, code: int, reason: str) -> None:
        """See Channel."""
        short = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        try:
            async with asyncio.timeout(self._send_seconds):
                await self._websocket.close(code, short)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return


async def serve_live(websocket: WebSocket, hub: Hub, kind: type[LiveProtocol]) -> None:
    """Admit a client and run its session.

    What forbids the stream is answered by HTTP (403, 400, 503) before it opens, a wrong key by
    close code 1008 after, since browsers show pages nothing of the former.
    """
    settings = hub.settings
    channel = WebSocketChannel(
        websocket, max(settings.max_message_bytes, kind.max_message_bytes), settings.send_seconds
    )
    subprotocol = answered_subprotocol(websocket.scope["subprotocols"])
    try:
        if not origin_allowed(websocket.headers, settings.cors_origin):
            raise limits.forbidden_origin()
        if not hub.keys.accept(presented_key(websocket.headers, websocket.scope["subprotocols"])):
            refused = limits.unauthorized()
            hub.reject(refused, protocol=kind.name)
            await websocket.accept(subprotocol)
            await channel.close(refused.code, refused.message)
            return
        protocol = kind(hub.info, websocket.query_params)
        session = Session(hub, channel, protocol)
        with hub.admitted(session) as loaded:
            headers = [(k.lower().encode(), v.encode()) for k, v in protocol.headers.items()]
            await websocket.accept(subprotocol, headers)
            await session.run(loaded)
    except Refused as refused:
        hub.reject(refused, protocol=kind.name)
        await websocket.send_denial_response(problem(refused))


def problem(refused: Refused) -> JSONResponse:
    """A refusal as an answer of HTTP, in the words of OpenAI's API."""
    kind = "server_error" if refused.status >= 500 else "invalid_request_error"
    body = {"message": refused.message, "type": kind, "param": None, "code": refused.reason}
    headers = {"retry-after": str(RETRY_AFTER)} if refused.status == 503 else {}
    if refused.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"error": body}, refused.status, headers)

"""One worker process, and the process above several of them."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import tempfile
import time
from types import FrameType

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from asr.errors import ASRError
from serve import logs, tcp
from serve.app import create_app
from serve.hub import Hub
from serve.metrics import MULTIPROCESS
from serve.protocols.openai_realtime import RealtimeProtocol
from serve.settings import ServeSettings

_REQUEST_SECONDS = 20.0  # from opening a connection to the end of the first request's headers
_LINGER_SECONDS = 10.0  # for a client to take the end of a connection
_SILENCE_SECONDS = 0.5  # without data: then nothing more comes
_SHORTEST_LIFE = 5.0  # seconds; a worker that dies sooner is not replaced at once


class _HttpProtocol(HttpToolsProtocol):
    """uvicorn's, which would wait for ever for a first request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_REQUEST_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        # A request has a cycle, and a WebSocket is no connection of this protocol any more.
        if self.cycle is None and self in self.connections:
            self.transport.close()


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's, but for clients that do not read, and for those that send what is too big."""

    async def run_asgi(self) -> None:
        """The session; then nobody is waited for without end."""
        await super().run_asgi()
        self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """Called with each piece of data after the first that is no message.

        To close at once, with data unread, would reset the connection, and the client would not
        learn why. So what still comes is read and dropped until it stops.
        """
        if self.close_timer is not None:
            self.close_timer.cancel()
        self.close_timer = self.loop.call_later(_SILENCE_SECONDS, self.transport.close)
        if self.close_sent or self.conn.close_sent is None:
            return
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.resume_reading()


class Worker(uvicorn.Server):
    """A server that ends by giving every live stream its last results."""

    def __init__(self, settings: ServeSettings, wyoming_socket: socket.socket | None = None):
        self.hub = Hub(settings)
        self._wyoming_socket = wyoming_socket
        super().__init__(
            uvicorn.Config(
                create_app(self.hub),
                host=settings.host,
                port=settings.port,
                lifespan="off",
                log_config=None,
                http=_HttpProtocol,
                ws=_WebSocketProtocol,
                ws_max_size=max(settings.max_message_bytes, RealtimeProtocol.max_message_bytes),
                # A ping waits behind the sound of a client that is slowed down: its answer tells
                # nothing. Who says nothing is found by the idle time.
                ws_ping_timeout=None,
                ws_per_message_deflate=False,
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
                timeout_graceful_shutdown=round(_LINGER_SECONDS),
                server_header=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and begin to load the model."""
        await super().startup(sockets)
        if self._wyoming_socket is not None:
            self.servers.append(await tcp.listen(self.hub, self._wyoming_socket))
        self.hub.start()

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to stop."""
        return await super().on_tick(counter) or self.hub.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The last results first, then the connections."""
        await self.hub.drain()
        await super().shutdown(sockets)
        await self.hub.stop()


def bind(host: str, port: int) -> socket.socket:
    """A listening address. Raises ASRError if it is taken or not ours."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
    except OSError as error:
        raise ASRError(
            f"{host}:{port}: cannot listen there: {error.strerror or error}",
            "choose another --host or --port",
        ) from None
    return bound


def serve(settings: ServeSettings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. Raises ASRError for what cannot be."""
    sockets = [bind(settings.host, settings.port)]
    if settings.wyoming_port is not None:
        sockets.append(bind(settings.host, settings.wyoming_port))
    _announce(settings, sockets)
    if settings.workers == 1:
        return _work(settings, *sockets)
    return _Workers(settings, sockets).run()


def _announce(settings: ServeSettings, sockets: list[socket.socket]) -> None:
    scheme = "https" if settings.tls_certificate else "http"
    host, port = sockets[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    details = {"wyoming_port": sockets[1].getsockname()[1]} if len(sockets) > 1 else {}
    logs.event("listening", url=f"{scheme}://{shown}:{port}/", workers=settings.workers, **details)
    if host not in ("127.0.0.1", "::1") and not settings.keys:
        logs.event("no_keys", logging.WARNING, remedy="anybody may use it: set --api-key-file")


def _work(
    settings: ServeSettings, http: socket.socket, wyoming_socket: socket.socket | None = None
) -> int:
    """One worker, until it is told to stop."""
    logs.configure(settings.log_format)
    # uvicorn raises the signal that ended it once more: by then the work is done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    worker = Worker(settings, wyoming_socket)
    worker.run([http])
    return 0 if worker.hub.failure is None else 1


def _work_and_exit(settings: ServeSettings, sockets: list[socket.socket]) -> None:
    raise SystemExit(_work(settings, *sockets))


class _Workers:
    """Processes that share an address; one that dies is replaced."""

    def __init__(self, settings: ServeSettings, sockets: list[socket.socket]):
        self._settings, self._sockets = settings, sockets
        self._context = multiprocessing.get_context("spawn")
        self._stopping = False

    def run(self) -> int:
        """Until a signal; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        with tempfile.TemporaryDirectory(prefix="asr-serve-") as folder:
            os.environ[MULTIPROCESS] = folder
            processes = [self._start() for _ in range(self._settings.workers)]
            self._watch(processes)
            for process in processes:
                if process.is_alive():
                    process.terminate()
            for process in processes:
                process.join()
        return max(abs(process.exitcode or 0) for process in processes)

    def _watch(self, processes: list[multiprocessing.process.BaseProcess]) -> None:
        begun = [time.monotonic()] * len(processes)
        while not self._stopping:
            multiprocessing.connection.wait([p.sentinel for p in processes], timeout=0.5)
            for i, process in enumerate(processes):
                if process.is_alive() or self._stopping:
                    continue
                assert process.pid is not None
                mark_process_dead(process.pid)
                logs.event(
                    "worker_died", logging.ERROR, worker=process.pid, status=process.exitcode
                )
                if time.monotonic() - begun[i] < _SHORTEST_LIFE:
                    time.sleep(1.0)
                processes[i], begun[i] = self._start(), time.monotonic()

    def _start(self) -> multiprocessing.process.BaseProcess:
        process = self._context.Process(
            target=_work_and_exit, args=(self._settings, self._sockets), name="asr-serve"
        )
        process.start()
        logs.event("worker_started", worker=process.pid)
        return process

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

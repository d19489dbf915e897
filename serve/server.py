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
from functools import partial
from types import FrameType

import uvicorn
from prometheus_client.multiprocess import mark_process_dead

from asr.errors import ASRError
from serve import logs, tcp
from serve.app import LIVE, create_app
from serve.http import HttpProtocol
from serve.hub import Hub
from serve.metrics import MULTIPROCESS
from serve.settings import ServeSettings
from serve.websocket import LINGER_SECONDS, WebSocketChannel

_SHORTEST_LIFE = 5.0  # seconds; a worker that dies sooner is not replaced at once
_TLS_SECONDS = 10.0  # for a handshake
_CHECK_SECONDS = 0.25  # between two looks at connections that wait for their clients


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
                http=partial(HttpProtocol, hub=self.hub, live=LIVE),  # type: ignore[arg-type]
                ws=WebSocketChannel,
                ssl_certfile=settings.tls_certificate,
                ssl_keyfile=settings.tls_key,
                timeout_graceful_shutdown=round(LINGER_SECONDS),
                server_header=False,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and begin to load the model."""
        await super().startup([])
        loop = asyncio.get_running_loop()
        tls = self.config.ssl
        for bound in sockets or ():
            self.servers.append(
                await loop.create_server(
                    self._connection,
                    sock=bound,
                    ssl=tls,
                    ssl_handshake_timeout=_TLS_SECONDS if tls else None,
                    backlog=self.config.backlog,
                )
            )
        if self._wyoming_socket is not None:
            self.servers.append(await tcp.listen(self.hub, self._wyoming_socket))
        self.hub.start()
        self._watching = asyncio.create_task(self._watch_connections())

    def _connection(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,  # type: ignore[call-arg]
        )

    async def _watch_connections(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, HttpProtocol):
                    connection.check(now, self.hub.settings.send_seconds)

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to stop."""
        return await super().on_tick(counter) or self.hub.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The last results first, then the connections."""
        await self.hub.drain()
        await super().shutdown(sockets)
        self._watching.cancel()
        await self.hub.stop()


def bind(host: str, port: int) -> socket.socket:
    """A listening address. Raises ASRError if it is taken or not ours."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
    except (OSError, UnicodeError, OverflowError, ValueError) as error:  # of any text and number
        raise ASRError(
            f"{host}:{port}: cannot listen there: {getattr(error, 'strerror', None) or error}",
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

"""One worker process: connections in, sessions and answers out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from functools import partial
from typing import Any

import uvicorn

from asr.errors import ASRError
from serve import logs, tcp
from serve.app import LIVE, create_app
from serve.discovery import announced
from serve.http import HttpProtocol
from serve.hub import Hub
from serve.settings import ServeSettings
from serve.websocket import LINGER_SECONDS, WebSocketChannel
from serve.workers import WYOMING, Inlet, Workers

_TLS_SECONDS = 10.0  # for a handshake
_CHECK_SECONDS = 0.25  # between two looks at connections that wait for their clients


class Worker(uvicorn.Server):
    """A server that ends by giving every live stream its last results.

    It listens on sockets (that of HTTP is an argument of `run`), or takes connections that another
    process has accepted.
    """

    def __init__(
        self,
        settings: ServeSettings,
        wyoming_socket: socket.socket | None = None,
        inlet: Inlet | None = None,
    ):
        self.hub = Hub(settings)
        self._wyoming_socket, self._inlet = wyoming_socket, inlet
        self._arriving: set[asyncio.Task[None]] = set()  # connections that were taken
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
        for bound in sockets or ():
            self.servers.append(
                await loop.create_server(
                    self._connection, sock=bound, backlog=self.config.backlog, **self._tls()
                )
            )
        if self._wyoming_socket is not None:
            self.servers.append(await tcp.listen(self.hub, self._wyoming_socket))
        if self._inlet is not None:
            loop.add_reader(self._inlet.fileno(), self._take, self._inlet)
        self.hub.start()
        self._watching = asyncio.create_task(self._watch_connections())

    def _connection(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,  # type: ignore[call-arg]
        )

    def _tls(self) -> dict[str, Any]:
        if self.config.ssl is None:
            return {}
        return {"ssl": self.config.ssl, "ssl_handshake_timeout": _TLS_SECONDS}

    def _take(self, inlet: Inlet) -> None:
        """Take a connection that another process has accepted."""
        try:
            taken = inlet.take()
        except BlockingIOError:
            return
        if taken is None:  # that process has ended: so does this one
            asyncio.get_running_loop().remove_reader(inlet.fileno())
            self.should_exit = True
            return
        task = asyncio.create_task(self._connect(*taken))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        self._report()

    async def _connect(self, kind: bytes, connection: socket.socket) -> None:
        try:
            if kind == WYOMING:
                await tcp.connect(self.hub, connection)
            else:
                loop = asyncio.get_running_loop()
                await loop.connect_accepted_socket(self._connection, connection, **self._tls())
        except OSError:  # it broke off, or its TLS is none
            connection.close()

    def _report(self) -> None:
        if self._inlet is not None:
            n_open = self.hub.open_connections + len(self._arriving)
            self._inlet.report(n_open, self.hub.ready)

    async def _watch_connections(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            self._report()
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, HttpProtocol):
                    connection.check(now, self.hub.settings.send_seconds)

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to stop."""
        return await super().on_tick(counter) or self.hub.failure is not None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The last results first, then the connections."""
        if self._inlet is not None:
            asyncio.get_running_loop().remove_reader(self._inlet.fileno())
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
    with contextlib.ExitStack() as held:
        if settings.wyoming_name:
            host, port = sockets[1].getsockname()[:2]
            held.enter_context(announced(settings.wyoming_name, host, port))
        if settings.workers > 1:
            return Workers(settings, sockets, _work_of_several).run()
        wyoming_socket = sockets[1] if len(sockets) > 1 else None
        return _work(Worker(settings, wyoming_socket), sockets[:1])


def _announce(settings: ServeSettings, sockets: list[socket.socket]) -> None:
    scheme = "https" if settings.tls_certificate else "http"
    host, port = sockets[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    details = {"wyoming_port": sockets[1].getsockname()[1]} if len(sockets) > 1 else {}
    logs.event("listening", url=f"{scheme}://{shown}:{port}/", workers=settings.workers, **details)
    if host in ("127.0.0.1", "::1"):
        return
    if not settings.keys:
        logs.event("no_keys", logging.WARNING, remedy="anybody may use it: set --api-key-file")
    if not settings.allowed_host:
        remedy = "clients that ask for it by a name are refused: set --allowed-host"
        logs.event("no_names", remedy=remedy)


def _work(worker: Worker, sockets: list[socket.socket]) -> int:
    """One worker, until it has to stop; returns the exit status."""
    # uvicorn raises the signal that ended it once more: by then the work is done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    worker.run(sockets)
    return 0 if worker.hub.failure is None else 1


def _work_of_several(settings: ServeSettings, inlet: Inlet) -> None:
    logs.configure(settings.log_format)
    raise SystemExit(_work(Worker(settings, inlet=inlet), []))

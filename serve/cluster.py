"""The server on a Ray cluster: as many replicas, each a process, as live streams and uploads need.

    serve run serve.cluster:app                       on this machine's cluster
    serve deploy config.yaml, deploy/kuberay.yaml     with the settings of `asr-serve` as arguments

Ray Serve's proxies take connections and keep each on one replica; the application is that of
`asr-serve`. A replica that is to end gets nothing new and ends when its streams have ended. Ray
exports the metrics of all replicas to Prometheus.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import yaml
from ray import serve
from ray.serve import Application
from ray.util.metrics import Gauge
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from asr.config import build
from asr.errors import ConfigError
from serve import limits, logs
from serve.app import LIVE, create_app
from serve.auth import answered_subprotocol
from serve.hub import Hub
from serve.limits import Refused
from serve.session import STOP_SECONDS, Gone, Session
from serve.settings import ServeSettings
from serve.websocket import open_protocol

_POLL_SECONDS = 0.1
_METRICS_SECONDS = 5.0
# Ray Serve's proxies have what a server of one machine does by itself.
_OF_PROXIES = {
    *("host", "port", "workers", "wyoming_port", "wyoming_name", "tls_certificate", "tls_key"),
}


@dataclass(frozen=True)
class Scaling:
    """How many replicas there are: enough for `streams` live streams and uploads on each."""

    min_replicas: int = 1
    max_replicas: int = 100
    streams: int = 20


def app(arguments: Mapping[str, Any]) -> Application:
    """The application of `Scaling` and of the settings of `asr-serve`, by name.

    Raises ConfigError for one that is unknown or that the proxies have.
    """
    # `serve run` gives text, written as in YAML.
    arguments = {k: yaml.safe_load(v) if isinstance(v, str) else v for k, v in arguments.items()}
    names = {field.name for field in fields(Scaling)}
    scaling = build(Scaling, {k: v for k, v in arguments.items() if k in names}, "scaling")
    given = {k: v for k, v in arguments.items() if k not in names}
    if useless := sorted(given.keys() & _OF_PROXIES):
        raise ConfigError(f"{useless[0]} is not of a replica", "set it for Ray Serve's proxies")
    settings = replace(build(ServeSettings, given, "serve"), threads=1)
    deployment: Any = serve.deployment(
        serve.ingress()(Replica),
        name="asr",
        ray_actor_options={"num_cpus": 1},
        max_ongoing_requests=settings.max_connections + settings.max_uploads,
        autoscaling_config={
            "min_replicas": scaling.min_replicas,
            "max_replicas": scaling.max_replicas,
            "target_ongoing_requests": scaling.streams,
        },
        graceful_shutdown_timeout_s=settings.drain_seconds,
        health_check_period_s=5,
    )
    return deployment.bind(asdict(settings))


class Replica:
    """One process with a model."""

    def __init__(self, settings: dict[str, Any]):
        logs.configure(settings["log_format"])
        self._hub = Hub(build(ServeSettings, settings, "serve"))

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """See ray.serve.ingress."""
        return Live(create_app(self._hub), self._hub)

    def check_health(self) -> None:
        """Raises why there will be no model; Ray starts another replica then."""
        if self._hub.failure is not None:
            raise self._hub.failure


class Live:
    """The application with its live streams, in ASGI; its lifespan is that of the model."""

    def __init__(self, app: ASGIApp, hub: Hub):
        self._app, self._hub = app, hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._stream(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._hub.start()
        while self._hub.loaded is None and self._hub.failure is None:
            await asyncio.sleep(_POLL_SECONDS)
        if self._hub.failure is not None:
            await send({"type": "lifespan.startup.failed", "message": str(self._hub.failure)})
            return
        telling = asyncio.create_task(tell_ray(self._hub))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        telling.cancel()
        await self._hub.drain()
        await self._hub.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A live stream, from its handshake to its end."""
        hub = self._hub
        await receive()
        try:
            headers = Headers(scope=scope)
            hub.sites.check(headers)
            kind = LIVE.get(scope["path"])
            if kind is None:
                raise limits.not_found(scope["path"])
            offered = list(scope["subprotocols"])
            authorization = headers.get("authorization", "")
            protocol = open_protocol(hub, kind, authorization, offered, scope["query_string"])
            if protocol is None:
                raise limits.unauthorized()
            channel = AsgiChannel(
                receive, send, max(hub.settings.max_message_bytes, kind.max_message_bytes)
            )
            session = Session(hub, channel, protocol)
            with hub.admitted(session) as loaded:
                own = [(k.lower().encode(), v.encode()) for k, v in protocol.headers.items()]
                subprotocol = answered_subprotocol(offered)
                accepted = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": own}
                await send(accepted)
                await session.run(loaded)
        except Refused as refused:
            hub.reject(refused, path=scope["path"])
            await send({"type": "websocket.close", "code": refused.code, "reason": refused.message})


class AsgiChannel:
    """One connection; see `serve.session.Channel`."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int):
        self._receive, self._send, self._max_bytes = receive, send, max_bytes
        self._ended = False
        self._stopped = asyncio.Event()

    async def receive(self) -> tuple[str | bytes, int] | None:
        """See Channel."""
        if self._ended or self._stopped.is_set():
            return None
        arriving = asyncio.ensure_future(self._receive())
        stopping = asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({arriving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not arriving.done():
                return None
            message = arriving.result()
        finally:
            arriving.cancel()
            stopping.cancel()
        if message["type"] == "websocket.disconnect":
            self._ended = True
            return None
        text = message.get("text")
        content: str | bytes = message["bytes"] if text is None else text
        if len(content) > self._max_bytes:
            raise limits.too_big("the message", self._max_bytes)
        return content, len(content)

    def stop(self) -> None:
        """See Channel."""
        asyncio.get_running_loop().call_later(STOP_SECONDS, self._stopped.set)

    async def send(self, message: str | dict[str, Any]) -> None:
        """See Channel."""
        text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        if self._ended:
            raise Gone
        try:
            await self._send({"type": "websocket.send", "text": text})
        except (OSError, RuntimeError) as error:  # what ASGI servers raise after a disconnection
            self._ended = True
            raise Gone from error

    async def close(self, code: int, reason: str) -> None:
        """See Channel."""
        if not self._ended:
            self._ended = True
            await self._send({"type": "websocket.close", "code": code, "reason": reason})


async def tell_ray(hub: Hub) -> None:
    """Pass the metrics of this replica on to Ray, every few seconds, by their names."""
    gauges: dict[str, Gauge] = {}
    while True:
        for family in hub.metrics.families():
            for name, labels, value, *_ in family.samples:
                if name not in gauges:
                    gauges[name] = Gauge(name, family.documentation, tuple(labels))
                gauges[name].set(value, labels)
        await asyncio.sleep(_METRICS_SECONDS)

"""The outermost layer of the application: who may ask at all, and what every answer says."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve import limits
from serve.auth import presented_key
from serve.hub import Hub
from serve.limits import Refused

_PRIVATE = (b"access-control-request-private-network", b"true")
_NEED_A_KEY = ("/metrics", "/openapi.json")  # where keys are set
_PAGES = ("/", "/healthz", "/readyz")
# The page gets all it needs from here, and sends audio to nobody else; nobody frames it.
_SECURITY = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}


def guarded(app: ASGIApp, hub: Hub) -> ASGIApp:
    """The application behind all checks; pages of `--cors-origin` may read every answer of it."""
    app = Guard(app, hub)
    if hub.settings.cors_origin:
        app = _PrivateNetwork(
            CORSMiddleware(
                app,
                allow_origins=list(hub.settings.cors_origin),
                allow_methods=["*"],
                allow_headers=["*"],
            )
        )
    return app


class Guard:
    """Checks hosts, origins and the keys of pages for machines, and adds headers of security."""

    def __init__(self, app: ASGIApp, hub: Hub):
        self._app, self._hub = app, hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        started = False

        async def secured(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, secured)
        except Refused as refused:
            self._hub.reject(refused, path=scope["path"])
            await refused.response()(scope, receive, secured)
        except Exception:  # told by `fault`, which the framework calls before it raises it again
            if not started:
                raise

    def _check(self, scope: Scope) -> None:
        path = scope["path"]
        is_page = path in _PAGES or path.startswith("/page/")
        linkable = is_page and scope["method"] in ("GET", "HEAD")
        self._hub.sites.check(Headers(scope=scope), scope["http_version"], linkable)
        if path in _NEED_A_KEY:
            check_key(Request(scope), self._hub)


class _PrivateNetwork:
    """Chromium asks before pages of the internet reach a private address."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _PRIVATE in scope["headers"]
        rest = [header for header in scope["headers"] if header != _PRIVATE]

        async def allowed(message: Message) -> None:
            if message["type"] == "http.response.start" and asked:
                headers = MutableHeaders(scope=message)
                if "access-control-allow-origin" in headers:
                    headers["access-control-allow-private-network"] = "true"
            await send(message)

        await self._app({**scope, "headers": rest}, receive, allowed)


async def fault(request: Request, error: Exception) -> Response:
    """The answer to a request in which something of ours failed; what, is for the log."""
    request.app.state.hub.fault(request.url.path, error)
    return Refused("fault", "the server failed", limits.FAULT, 500).response()


def check_key(request: Request, hub: Hub) -> None:
    """Raises Refused unless the request has a key that opens the server."""
    if not hub.keys.accept(presented_key(request.headers)):
        raise limits.unauthorized()

"""What the server refuses, how it says so, and how many may be served at a time."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass

from starlette.responses import JSONResponse

from serve import logs

RETRY_AFTER = 5  # seconds, told to who comes when all places are taken

# Close codes of WebSockets (RFC 6455, section 7.4, and IANA's register).
NORMAL, GOING_AWAY, PROTOCOL, INVALID_TEXT, POLICY = 1000, 1001, 1002, 1007, 1008
TOO_BIG, FAULT, TRY_LATER = 1009, 1011, 1013


class _AsciiResponse(JSONResponse):
    """JSON that can be encoded whatever characters a client has sent."""

    def render(self, content: object) -> bytes:
        return json.dumps(content).encode()


@dataclass
class Refused(Exception):
    """The client gets `message` and leaves.

    `reason` is a short label for metrics and logs, `code` the WebSocket's close code, `status` that
    of HTTP; `param` is the setting of the request that is wrong, where it is one.
    """

    reason: str
    message: str
    code: int = POLICY
    status: int = 400
    param: str | None = None

    def __str__(self) -> str:
        return self.message

    def response(self, content: object = None) -> JSONResponse:
        """As an answer of HTTP: `content`, or an error in the words of OpenAI's API."""
        if content is None:
            kind = "server_error" if self.status >= 500 else "invalid_request_error"
            body = {"message": self.message, "type": kind, "param": self.param, "code": self.reason}
            content = {"error": body}
        headers = {"retry-after": str(RETRY_AFTER)} if self.status == 503 else {}
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return _AsciiResponse(content, self.status, headers)


def full() -> Refused:
    return Refused("full", "all places are taken, try again", TRY_LATER, 503)


def not_ready() -> Refused:
    return Refused("not_ready", "the model is being loaded, try again", TRY_LATER, 503)


def draining() -> Refused:
    return Refused("draining", "the server is shutting down", GOING_AWAY, 503)


def unauthorized() -> Refused:
    return Refused("auth", "missing or wrong API key", POLICY, 401)


def forbidden_origin() -> Refused:
    return Refused("origin", "pages of this origin may not use the server", POLICY, 403)


def unknown_host() -> Refused:
    message = "the server does not go by this name; --allowed-host gives it one"
    return Refused("host", message, POLICY, 421)


def not_found(path: str) -> Refused:
    return Refused("not_found", f"there is nothing at {path!r:.100}", POLICY, 404)


def target_too_long(limit: int) -> Refused:
    return Refused("target_too_long", f"the target has more than {limit} bytes", POLICY, 414)


def headers_too_large() -> Refused:
    return Refused("headers_too_large", "the headers are too many or too long", POLICY, 431)


def too_big(what: str, limit: int) -> Refused:
    return Refused("too_big", f"{what} has more than {limit} bytes", TOO_BIG, 413)


def too_long(limit: float) -> Refused:
    return Refused("too_long", f"longer than {limit:g} s", POLICY, 413)


def too_slow(limit: float) -> Refused:
    return Refused("too_slow", f"less than {limit:g} bytes a second came", POLICY, 408)


def disk_full() -> Refused:
    return Refused("disk_full", "there is no room for the recording", TRY_LATER, 507)


def idle(limit: float) -> Refused:
    return Refused("idle", f"nothing came for {limit:g} s", POLICY, 408)


def slow_reader() -> Refused:
    return Refused("slow_reader", "results are not being read", POLICY, 408)


def bad_request(message: str, param: str | None = None) -> Refused:
    return Refused("bad_request", message, POLICY, 400, param)


@contextlib.contextmanager
def nonsense_refused(protocol: str) -> Iterator[None]:
    """For code that does nothing but look at what a client sent: what it trips over is the client's
    mistake. Raises Refused instead.
    """
    try:
        yield
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        logs.event("nonsense", logging.WARNING, protocol=protocol, error=repr(error)[:200])
        raise bad_request("the message makes no sense") from None
    except RecursionError:
        raise bad_request("the message is nested too deeply") from None


class Places:
    """A counter with a cap. What enters leaves, whatever happens in between.

    >>> places = Places(1)
    >>> with places.taken():
    ...     places.free
    0
    >>> places.free
    1
    """

    def __init__(self, limit: int):
        self._limit = limit
        self._taken = 0

    @property
    def free(self) -> int:
        return self._limit - self._taken

    def check(self) -> None:
        """Raises Refused if there is no place left."""
        if self.free <= 0:
            raise full()

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Raises Refused if there is no place left."""
        self.check()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

"""Who may use the server: API keys, names of hosts, and origins of web pages."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers

from serve import limits

# Browsers cannot set headers on WebSockets: keys come as subprotocols, each vendor's way.
_OPENAI_KEY = "openai-insecure-api-key."
_KEY_FOLLOWS = ("token", "bearer")  # Deepgram's: the subprotocol after it is the key
_ANSWERED = ("realtime", *_KEY_FOLLOWS)


class Keys:
    """The keys that open the server; none at all open it to everybody.

    >>> Keys(["secret"]).accept("secret"), Keys(["secret"]).accept("Secret"), Keys([]).accept(None)
    (True, False, True)
    """

    def __init__(self, keys: Iterable[str]):
        self._digests = [_digest(key) for key in keys]

    def accept(self, presented: str | None) -> bool:
        """Takes equally long whichever key it is, and however much of it is right."""
        if not self._digests:
            return True
        digest = _digest(presented or "")
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return presented is not None and any(matches)


def presented_key(headers: Mapping[str, str], subprotocols: Sequence[str] = ()) -> str | None:
    """The key in `Authorization: Bearer KEY` (or `Token KEY`) or among WebSocket subprotocols.

    >>> presented_key({"authorization": "Token abc"}), presented_key({}, ["token", "abc"])
    ('abc', 'abc')
    >>> presented_key({"authorization": "abc"})
    'abc'
    >>> presented_key({}, ["realtime", "openai-insecure-api-key.abc"])
    'abc'
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() in _KEY_FOLLOWS and key.strip():
        return key.strip()
    if scheme and not key:  # AssemblyAI's clients send the key alone
        return scheme
    for i, name in enumerate(subprotocols):
        if name.startswith(_OPENAI_KEY):
            return name.removeprefix(_OPENAI_KEY)
        if name in _KEY_FOLLOWS and i + 1 < len(subprotocols):
            return subprotocols[i + 1]
    return None


def answered_subprotocol(offered: Sequence[str]) -> str | None:
    """The one that the server takes: never a key."""
    return next((name for name in offered if name in _ANSWERED), None)


@dataclass(frozen=True)
class Sites:
    """The names that the server goes by, and the web pages that may use it.

    Browsers let any page connect to any address, a server on the loopback included: the server has
    to look. A page whose own name resolves to the server's address (DNS rebinding) is recognised by
    the host that the browser asks for.

    hosts: names beside loopback ones and literal addresses; `*.example.org` holds all below it, `*`
        any name.
    origins: such as `https://example.org`, or `*`.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    def check(self, headers: Headers, version: str = "1.1", linkable: bool = False) -> None:
        """Raises Refused for a request that may not be made.

        `version` is that of HTTP; pages of other sites may link to what is `linkable`.
        """
        self._check_host(headers.getlist("host"), version)
        origins = headers.getlist("origin")
        if not all(self._allows_origin(origin, headers["host"]) for origin in origins):
            raise limits.forbidden_origin()
        # Without an origin: what an image or a form of another site's page asks for.
        site = headers.get("sec-fetch-site", "none")
        if not origins and site not in ("none", "same-origin") and not linkable:
            raise limits.forbidden_origin()

    def _check_host(self, values: list[str], version: str) -> None:
        if not values and version == "1.0":
            return
        if len(values) != 1:
            raise limits.bad_request("a request has one Host header")
        name = _host_name(values[0])
        if name is None:
            raise limits.bad_request("the Host header is not a name")
        if not (_is_local(name) or self._allows_host(name)):
            raise limits.unknown_host()

    def _allows_host(self, name: str) -> bool:
        parents = [f"*.{name[i + 1 :]}" for i, letter in enumerate(name) if letter == "."]
        return any(known in self.hosts for known in ("*", name, *parents))

    def _allows_origin(self, origin: str, host: str) -> bool:
        if "*" in self.origins or origin in self.origins:
            return True
        scheme, _, netloc = origin.lower().partition("://")
        default = {"http": ":80", "https": ":443"}.get(scheme, "")
        own = host.lower()
        return bool(default) and netloc.removesuffix(default) == own.removesuffix(default)


def _host_name(value: str) -> str | None:
    """The name in a Host header, without its port."""
    match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^\[\]:/@?#\s]+)(:\d*)?", value.lower())
    return match[1].rstrip(".") if match else None


def _is_local(name: str) -> bool:
    """Loopback names and literal addresses: no page can make them its own.

    >>> [_is_local(name) for name in ("localhost", "a.localhost", "10.0.0.1", "[::1]", "a.b")]
    [True, True, True, True, False]
    """
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()

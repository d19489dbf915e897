"""Who may use the server: API keys, and the origins of web pages."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import urlsplit

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
    >>> presented_key({}, ["realtime", "openai-insecure-api-key.abc"])
    'abc'
    """
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() in _KEY_FOLLOWS and key.strip():
        return key.strip()
    for i, name in enumerate(subprotocols):
        if name.startswith(_OPENAI_KEY):
            return name.removeprefix(_OPENAI_KEY)
        if name in _KEY_FOLLOWS and i + 1 < len(subprotocols):
            return subprotocols[i + 1]
    return None


def answered_subprotocol(offered: Sequence[str]) -> str | None:
    """The one that the server takes: never a key."""
    return next((name for name in offered if name in _ANSWERED), None)


def origin_allowed(headers: Mapping[str, str], allowed: Sequence[str]) -> bool:
    """Whether a page of this origin may open a WebSocket; programs that are no browsers send none.

    Browsers let any page connect to any address, a server on the loopback included: the server has
    to look.

    >>> origin_allowed({"origin": "http://localhost:8000", "host": "localhost:8000"}, [])
    True
    >>> origin_allowed({"origin": "https://elsewhere.net", "host": "localhost:8000"}, [])
    False
    """
    origin = headers.get("origin")
    if origin is None or "*" in allowed or origin in allowed:
        return True
    return urlsplit(origin).netloc == headers.get("host")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()

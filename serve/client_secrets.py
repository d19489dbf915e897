"""Keys for one kind of session, with an end: a backend gives them to pages instead of its own key.

A secret carries its end and its settings, signed with the server's keys: nothing has to be
remembered, and every worker can check it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from serve.limits import bad_request

MAX_SECRET_BYTES = 8192  # it has to fit into a header
_PREFIX = "ek_"


class ClientSecrets:
    """Makes and reads secrets.

    >>> secrets = ClientSecrets(["key"])
    >>> secret = secrets.make({"a": 1}, time.time() + 60)
    >>> secrets.read(secret), secrets.read(secret[:-1]), ClientSecrets(["other"]).read(secret)
    ({'a': 1}, None, None)
    """

    def __init__(self, keys: Iterable[str]):
        joined = "\n".join(["client secrets", *sorted(keys)])
        self._key = hashlib.sha256(joined.encode("utf-8", "surrogatepass")).digest()

    def make(self, settings: Mapping[str, Any], expires_at: float) -> str:
        """A secret. Raises Refused for settings that are too long."""
        content = json.dumps([round(expires_at), settings], separators=(",", ":")).encode()
        encoded = base64.urlsafe_b64encode(content).rstrip(b"=")
        secret = f"{_PREFIX}{encoded.decode()}.{self._signature(encoded)}"
        if len(secret) > MAX_SECRET_BYTES:
            raise bad_request("the session's settings are too long for a secret", "session")
        return secret

    def read(self, secret: str | None) -> dict[str, Any] | None:
        """The settings of a secret; None for what is none, or is over."""
        if secret is None or not secret.startswith(_PREFIX) or not secret.isascii():
            return None
        encoded, _, signature = secret.removeprefix(_PREFIX).partition(".")
        if not hmac.compare_digest(self._signature(encoded.encode()), signature):
            return None
        content = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        expires_at, settings = json.loads(content)
        return dict(settings) if time.time() < expires_at else None

    def _signature(self, encoded: bytes) -> str:
        return hmac.new(self._key, encoded, hashlib.sha256).hexdigest()

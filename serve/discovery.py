"""Home Assistant finds the Wyoming port by itself: multicast DNS (zeroconf) names it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

from asr.errors import ASRError

SERVICE = "_wyoming._tcp.local."
_MULTICAST = ("224.0.0.251", 5353)  # of mDNS; nothing is sent to find the own address


@contextlib.contextmanager
def announced(name: str, host: str, port: int) -> Iterator[None]:
    """Announce the port under a name while the context lasts.

    `host`: the address that the server listens on; for all of them (0.0.0.0), that by which the
    network is reached. Raises ASRError if that is not possible.
    """
    try:
        from zeroconf import ServiceInfo, Zeroconf
    except ImportError as error:
        raise ASRError(
            "--wyoming-name needs the package zeroconf", "pip install zeroconf"
        ) from error
    label = name.replace(".", "-")[:63]
    try:
        address = _reached_by(host)
        info = ServiceInfo(SERVICE, f"{label}.{SERVICE}", addresses=[address], port=port)
        zeroconf = Zeroconf()
    except (OSError, ValueError) as error:
        raise ASRError(
            f"{name}: cannot be announced: {error}", "leave --wyoming-name out"
        ) from None
    try:
        zeroconf.register_service(info, allow_name_change=True)
        yield
    finally:
        zeroconf.close()  # which takes the announcement back


def _reached_by(host: str) -> bytes:
    """The address that others are to use, in network order.

    >>> _reached_by("127.0.0.1")
    b'\\x7f\\x00\\x00\\x01'
    """
    address = ipaddress.ip_address(socket.getaddrinfo(host, None)[0][4][0])
    if not address.is_unspecified:
        return address.packed
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(_MULTICAST)
        return ipaddress.ip_address(probe.getsockname()[0]).packed

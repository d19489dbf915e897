"""The Wyoming port is found by multicast DNS, while the server runs."""

from __future__ import annotations

import sys

import pytest

from asr.errors import ASRError, ConfigError
from serve.discovery import SERVICE, announced
from serve.settings import ServeSettings


class Fake:
    """What zeroconf would tell the network, which tests leave alone."""

    registered: list = []  # noqa: RUF012
    is_closed = False

    def register_service(self, info, allow_name_change):
        self.registered.append(info)

    def close(self):
        Fake.is_closed = True


def test_a_port_is_announced_while_the_server_runs(monkeypatch):
    zeroconf = pytest.importorskip("zeroconf")
    monkeypatch.setattr(zeroconf, "Zeroconf", Fake)
    with announced("kitchen.asr", "127.0.0.1", 10_300):
        [info] = Fake.registered
        assert info.name == f"kitchen-asr.{SERVICE}"
        assert (info.port, info.parsed_addresses()) == (10_300, ["127.0.0.1"])
        assert not Fake.is_closed
    assert Fake.is_closed


def test_without_the_package_the_remedy_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeroconf", None)
    with pytest.raises(ASRError, match="zeroconf"), announced("x", "127.0.0.1", 1):
        pass


def test_a_name_needs_a_port():
    with pytest.raises(ConfigError, match="wyoming_name"):
        ServeSettings(wyoming_name="kitchen")

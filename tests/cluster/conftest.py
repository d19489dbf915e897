"""A Ray cluster of two nodes with one core each, and an object store; both as in production."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def store() -> Iterator[str]:
    """The address of a bucket on an S3 server."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # nodes import what tests do
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("speech")
        yield "s3://speech"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="session")
def nodes(store: str) -> Iterator[Any]:
    """The cluster; its nodes know the keys of the store."""
    utils = pytest.importorskip(
        "ray.cluster_utils", reason="ray is not installed (extra [cluster])"
    )
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    head = {**node, "include_dashboard": False, "_system_config": soon}
    cluster = utils.Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))

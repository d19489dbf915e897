"""A Ray cluster of two nodes with one core each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def nodes(store: str) -> Iterator[Any]:
    """The cluster; its nodes know the keys of the store."""
    utils = pytest.importorskip(
        "ray.cluster_utils", reason="ray is not installed (extra [cluster])"
    )
    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    soon["metrics_report_interval_ms"] = 500
    head = {**node, "include_dashboard": False, "_system_config": soon}
    cluster = utils.Cluster(initialize_head=True, head_node_args=head)
    cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))

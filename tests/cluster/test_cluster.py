"""Work on a cluster: each task has one result, whatever dies."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import urllib.request

import pytest

from asr import cluster
from asr.errors import ASRError, MissingDependencyError

pytest.importorskip("ray", reason="ray is not installed (extra [cluster])")


@pytest.mark.slow
def test_each_task_has_one_result_whatever_dies(nodes, tmp_path):
    from tasks import Make, digits

    batches = [[1, 2], [5, 7], [13, 14], [120, 999]]
    with cluster.connected(nodes.address):
        results = list(
            cluster.run(
                batches, Make(tmp_path / "died"), is_large=lambda task: task > 100, split=digits
            )
        )
    found = dict(results)
    assert len(results) == len(found) == 8
    for task in (1, 2, 7, 14):
        assert found[task] == [2 * task]
    assert found[120] == [2, 4, 0]
    (five,) = found[5]
    assert isinstance(five, ValueError)
    *parts, error = found[999]
    assert (parts, type(error)) == ([18], OSError)
    (died,) = found[13]
    assert isinstance(died, ASRError)
    assert "13: processes were stopped" in str(died)


@pytest.mark.slow
def test_what_never_comes_back_is_done_again(nodes, tmp_path, monkeypatch):
    """Ray loses a task: Ray Data has nothing to give, and does not end."""
    import ray.data
    from tasks import Make

    whole, rounds = ray.data.Dataset.iter_batches, []

    def without_the_last(dataset, **options):
        *some, last = whole(dataset, **options)
        yield from some
        if not rounds:
            rounds.append(last)
            threading.Event().wait(60)
        yield last

    monkeypatch.setattr(ray.data.Dataset, "iter_batches", without_the_last)
    monkeypatch.setattr(cluster, "_CHECK_SECONDS", 0.1)
    with cluster.connected(nodes.address):
        results = list(cluster.run([[1], [2], [3]], Make(tmp_path / "died")))
    assert rounds
    assert sorted(results) == [(1, [2]), (2, [4]), (3, [6])]


@pytest.mark.slow
def test_counters_are_exported_to_prometheus(nodes):
    import ray

    def exported():
        for node in ray.nodes():
            url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
                yield from answer.read().decode().splitlines()

    with cluster.connected(nodes.address):
        add = cluster.counter("asr_tested", "what a test counts")
        add(0)
        add(2.5)
        deadline = time.monotonic() + 60
        while not (found := [x for x in exported() if x.startswith("ray_asr_tested")]):
            assert time.monotonic() < deadline
            time.sleep(0.5)
    # Ray counts twice in a process that has connected to a cluster before.
    assert float(found[0].split()[-1]) >= 2.5


def test_a_wait_ends_when_the_cluster_has_long_been_idle(monkeypatch):
    monkeypatch.setattr(cluster, "_CHECK_SECONDS", 0.01)
    more = threading.Event()

    def blocks():
        yield "first"
        more.wait(60)

    looks = iter([False, True, False, *[True] * 100])
    found = cluster._until_idle(blocks(), lambda: next(looks))
    assert list(found) == ["first"]
    assert next(looks) is True
    more.set()


def test_who_needs_no_more_blocks_ends_the_reading(monkeypatch):
    monkeypatch.setattr(cluster, "_CHECK_SECONDS", 0.01)
    ended = threading.Event()

    def blocks():
        try:
            while True:
                yield "another"
        finally:
            ended.set()

    found = cluster._until_idle(blocks(), lambda: False)
    next(found)
    found.close()
    assert ended.wait(10)


def test_a_wait_lasts_while_the_cluster_works(monkeypatch):
    monkeypatch.setattr(cluster, "_CHECK_SECONDS", 0.01)
    more, looks = threading.Event(), []

    def blocks():
        yield "first"
        more.wait(60)
        yield "last"
        raise ValueError("the cluster was lost")

    def is_idle():
        looks.append(False)
        if len(looks) > 2 * cluster._IDLE_CHECKS:
            more.set()
        return False

    found = cluster._until_idle(blocks(), is_idle)
    assert [next(found), next(found)] == ["first", "last"]
    with pytest.raises(ValueError, match="was lost"):
        next(found)


def test_a_cluster_that_is_not_there_is_an_error():
    with (
        pytest.raises(ASRError, match=r"no cluster at nowhere.*ray start --head"),
        cluster.connected("nowhere"),
    ):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"\[cluster\]"), cluster.connected("auto"):
        pass

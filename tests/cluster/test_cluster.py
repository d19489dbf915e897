"""Work on a cluster: each task has one result, whatever dies."""

from __future__ import annotations

import sys

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

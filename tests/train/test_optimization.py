import itertools

import pytest

torch = pytest.importorskip("torch")

from asr.train.config import OptimizerConfig  # noqa: E402
from asr.train.optimization import learning_rate  # noqa: E402


def test_the_rate_rises_stays_and_falls():
    config = OptimizerConfig(learning_rate=2.0, warmup_steps=10, decay=0.5, final=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[50] == 2.0
    assert rates[75] == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rates[99] > 0.2
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))

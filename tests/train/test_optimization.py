import itertools

import pytest

torch = pytest.importorskip("torch")

from asr.errors import ConfigError  # noqa: E402
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


def test_one_cycle_falls_along_a_cosine():
    config = OptimizerConfig(learning_rate=2.0, schedule="one_cycle", warmup_steps=10, final=0.1)
    rates = [learning_rate(step, 110, config) for step in range(110)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == 2.0
    assert rates[59] == pytest.approx(2 * (0.1 + 0.9 / 2))
    assert rates[109] == pytest.approx(0.2)
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))


def test_noam_falls_with_the_square_root():
    config = OptimizerConfig(learning_rate=2.0, schedule="noam", warmup_steps=4)
    rates = [learning_rate(step, 64, config) for step in range(64)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert (rates[15], rates[63]) == (1.0, 0.5)


def test_the_rate_is_reduced_where_nothing_gets_better():
    config = OptimizerConfig(
        learning_rate=1.0, schedule="on_plateau", warmup_steps=1, reduce_by=0.1, reduce_after=2,
        final=0.02,
    )  # fmt: skip

    def rate(*looks):
        return learning_rate(100, 1000, config, looks)

    assert rate() == rate(9) == rate(9, 8, 8.5) == rate(9, 8, 8.5, 7, 7) == 1.0
    assert rate(9, 8, 8.5, 8) == rate(9, 8, 8.5, 8, 7, 7) == 0.1
    assert rate(9, 8, 8.5, 8, 8, 8) == 0.02


@pytest.mark.parametrize("settings", [{"reduce_by": 1.0}, {"reduce_after": 0}])
def test_a_plateau_that_makes_no_sense_is_refused(settings):
    with pytest.raises(ConfigError, match="reduce_"):
        OptimizerConfig(**settings)

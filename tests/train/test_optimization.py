import itertools

import pytest

torch = pytest.importorskip("torch")

from asr.data.dataset import Batch  # noqa: E402
from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402
from asr.train.config import OptimizerConfig  # noqa: E402
from asr.train.optimization import ctc_losses, learning_rate  # noqa: E402


def make_batch(targets: list[list[int]], n_frames: list[int]) -> Batch:
    torch.manual_seed(1)
    padded = torch.zeros(len(targets), max(map(len, targets)), dtype=torch.long)
    for row, target in zip(padded, targets, strict=True):
        row[: len(target)] = torch.tensor(target)
    return Batch(
        torch.randn(len(targets), max(n_frames), 4),
        torch.tensor(n_frames),
        {"characters": padded},
        {"characters": torch.tensor([len(t) for t in targets])},
        [""] * len(targets),
    )


@pytest.fixture
def model() -> AcousticModel:
    torch.manual_seed(0)
    return AcousticModel(4, EncoderConfig(5, 1), {"characters": HeadConfig(3, 1)}).eval()


def brute_force(log_probs: torch.Tensor, target: list[int]) -> torch.Tensor:
    """-ln of the summed probability of every path that collapses to the target."""
    total = []
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        collapsed = [c for c, _ in itertools.groupby(path) if c != 0]
        if collapsed == target:
            total.append(sum(log_probs[t, c] for t, c in enumerate(path)))
    return -torch.logsumexp(torch.stack(total), dim=0)


def test_loss_equals_the_sum_over_all_paths(model):
    targets, n_frames = [[1, 2], [2, 2], []], [4, 5, 3]
    batch = make_batch(targets, n_frames)
    loss, blanks = ctc_losses(model, batch, {"characters": 2.0})
    log_probs, _ = model(batch.features, batch.lengths)
    expected = sum(
        brute_force(log_probs[i, :n], t)
        for i, (t, n) in enumerate(zip(targets, n_frames, strict=True))
    )
    torch.testing.assert_close(loss, 2 * expected)
    inside = torch.cat([log_probs[i, :n] for i, n in enumerate(n_frames)])
    assert float(blanks) == pytest.approx(float((inside.argmax(-1) == 0).float().mean()))


def test_impossible_and_missing_targets_add_nothing(model):
    possible, _ = ctc_losses(model, make_batch([[1]], [3]), {"characters": 1.0})
    batch = make_batch([[1], [1, 1, 1], [2]], [3, 3, 3])
    batch.target_lengths["characters"][2] = -1
    batch.features[0] = make_batch([[1]], [3]).features[0]
    loss, _ = ctc_losses(model, batch, {"characters": 1.0})
    torch.testing.assert_close(loss, possible)


def test_the_rate_rises_stays_and_falls():
    config = OptimizerConfig(learning_rate=2.0, warmup_steps=10, decay=0.5, final=0.1)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == rates[50] == 2.0
    assert rates[75] == pytest.approx(2 * (0.1 + 0.9 * 0.5))
    assert rates[99] > 0.2
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))

import itertools
import math

import pytest

torch = pytest.importorskip("torch")

from asr.data.dataset import Batch  # noqa: E402
from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402
from asr.train.config import LossConfig  # noqa: E402
from asr.train.losses import bad_examples, confidence_penalty, consistency_loss, training_loss  # noqa: E402

PLAIN = LossConfig()


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
    loss, blanks = training_loss(model, batch, {"characters": 2.0}, PLAIN)
    log_probs, _ = model(batch.features, batch.lengths)
    expected = sum(
        brute_force(log_probs[i, :n], t)
        for i, (t, n) in enumerate(zip(targets, n_frames, strict=True))
    )
    torch.testing.assert_close(loss, 2 * expected)
    inside = torch.cat([log_probs[i, :n] for i, n in enumerate(n_frames)])
    assert float(blanks) == pytest.approx(float((inside.argmax(-1) == 0).float().mean()))


def test_impossible_and_missing_targets_add_nothing(model):
    possible, _ = training_loss(model, make_batch([[1]], [3]), {"characters": 1.0}, PLAIN)
    batch = make_batch([[1], [1, 1, 1], [2]], [3, 3, 3])
    batch.target_lengths["characters"][2] = -1
    batch.features[0] = make_batch([[1]], [3]).features[0]
    loss, _ = training_loss(model, batch, {"characters": 1.0}, PLAIN)
    torch.testing.assert_close(loss, possible)


def log_probs(*rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).log()


def test_views_that_agree_are_consistent():
    one = [[0.5, 0.5], [0.9, 0.1]]
    assert float(consistency_loss(log_probs(one, one), torch.tensor([2, 2]))) == pytest.approx(0)


def test_inconsistency_is_the_divergence_both_ways_inside_the_utterances():
    views = log_probs([[0.5, 0.5], [0.9, 0.1]], [[0.25, 0.75], [0.1, 0.9]])
    found = consistency_loss(views, torch.tensor([1, 1]))

    def kl(p, q):
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    p, q = [0.5, 0.5], [0.25, 0.75]
    assert float(found) == pytest.approx(kl(p, q) + kl(q, p))


def test_each_view_learns_from_the_other_which_stands_still():
    logits = torch.tensor([[[0.0, 1.0]], [[2.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    consistency_loss(logits.log_softmax(-1), torch.tensor([1, 1])).backward()
    p = logits.detach().softmax(-1)
    # The gradient of cross-entropy against a fixed target.
    torch.testing.assert_close(logits.grad, p - p.roll(1, 0))


def test_the_loss_of_two_views_is_theirs_and_their_inconsistency(model):
    one, two = make_batch([[1, 2]], [4]), make_batch([[1, 2]], [4])
    two.features[0, 1] = 0.0
    joined = make_batch([[1, 2], [1, 2]], [4, 4])
    joined.features, joined.views = torch.cat([one.features, two.features]), 2
    both = sum(training_loss(model, b, {"characters": 3.0}, PLAIN)[0] for b in (one, two))
    found, _ = training_loss(model, joined, {"characters": 3.0}, LossConfig(consistency=0.2))
    extra = consistency_loss(*model(joined.features, joined.lengths))
    assert float(extra.detach()) > 0
    torch.testing.assert_close(found, both + 3.0 * 0.2 * extra)
    joined.views = 1  # as before SpecAugment starts
    found, _ = training_loss(model, joined, {"characters": 3.0}, LossConfig(consistency=0.2))
    torch.testing.assert_close(found, both)


def test_certainty_is_least_where_all_classes_are_as_probable(model):
    views = log_probs([[0.5, 0.5], [0.9, 0.1]])
    assert float(confidence_penalty(views, torch.tensor([1]))) == pytest.approx(0)
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert float(confidence_penalty(views, torch.tensor([2]))) == pytest.approx(expected)
    batch = make_batch([[1, 2]], [4])
    plain, smoothed = (
        training_loss(model, batch, {"characters": 1.0}, LossConfig(entropy=w))[0] for w in (0, 0.1)
    )
    assert float(smoothed.detach()) > float(plain.detach())


def test_what_is_no_number_is_named(model):
    batch = make_batch([[1], [2], [1]], [3, 3, 3])
    batch.ids = ["a", "b", "c"]
    assert bad_examples(model, batch) == ["a", "b", "c"]
    batch.features[1, 2, 0] = float("nan")
    assert bad_examples(model, batch) == ["b"]
    nothing = Batch(torch.zeros(0, 0, 0), torch.zeros(0), {}, {}, [], ["d: no such file"])
    assert bad_examples(model, nothing) == ["d: no such file"]

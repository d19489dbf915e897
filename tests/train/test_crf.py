"""CTC-CRF against the sum over all sequences, written out."""

import itertools
import json
import math
from collections import defaultdict

import pytest

torch = pytest.importorskip("torch")

from asr.train.losses import UnitTrigram, crf_term, log_partition  # noqa: E402

SAID = [[1, 2, 1], [2, 2], [1], []]


@pytest.fixture(scope="module")
def trigram():
    return UnitTrigram(SAID, classes=3)


def random_log_probs(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).log_softmax(-1)


def prior(trigram, sequence):
    return float(trigram.log_probs(torch.tensor([sequence]), torch.tensor([len(sequence)])))


def likelihoods(log_probs):
    """Sequence -> its CTC likelihood, by enumeration of all paths."""
    sums = defaultdict(float)
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        sequence = tuple(unit for unit, _ in itertools.groupby(path) if unit)
        sums[sequence] += math.exp(sum(float(log_probs[t, k]) for t, k in enumerate(path)))
    return sums


def test_the_trigram_is_a_distribution_over_sequences(trigram):
    totals = trigram.follows.sum(-1) + trigram.ends
    torch.testing.assert_close(totals, torch.ones_like(totals))
    assert prior(trigram, [1, 2, 1]) > prior(trigram, [1, 1, 1])


def test_the_partition_is_the_sum_over_all_sequences(trigram):
    log_probs, lengths = random_log_probs(2, 5, 3), torch.tensor([5, 3])
    found = log_partition(log_probs, lengths, trigram)
    for row, length, value in zip(log_probs, lengths, found, strict=True):
        sums = likelihoods(row[:length])
        expected = sum(p * math.exp(prior(trigram, list(s))) for s, p in sums.items())
        assert float(value) == pytest.approx(math.log(expected), abs=1e-5)


def test_the_criterion_is_the_share_of_the_target(trigram):
    log_probs, lengths = random_log_probs(1, 5, 3), torch.tensor([5])
    target, target_lengths = torch.tensor([[2, 2, 0]]), torch.tensor([2])
    ctc = torch.nn.functional.ctc_loss(
        log_probs.transpose(0, 1), target, lengths, target_lengths, reduction="none"
    )
    loss = ctc + crf_term(log_probs, lengths, target, target_lengths, trigram)
    sums = {s: p * math.exp(prior(trigram, list(s))) for s, p in likelihoods(log_probs[0]).items()}
    assert float(loss) == pytest.approx(-math.log(sums[2, 2] / sum(sums.values())), abs=1e-5)


def test_padding_and_the_batch_make_no_difference(trigram):
    log_probs = random_log_probs(3, 6, 3)
    lengths = torch.tensor([6, 1, 4])
    together = log_partition(log_probs, lengths, trigram)
    for row, length, value in zip(log_probs, lengths, together, strict=True):
        alone = log_partition(row[None, :length], length[None], trigram)
        torch.testing.assert_close(value, alone[0])


def test_every_frame_is_occupied_once(trigram):
    """The gradient is the probability of each class at each frame, over all sequences."""
    log_probs = random_log_probs(2, 6, 3).requires_grad_()
    log_partition(log_probs, torch.tensor([6, 4]), trigram).sum().backward()
    occupied = log_probs.grad.sum(-1)
    expected = torch.ones(2, 6)
    expected[1, 4:] = 0
    torch.testing.assert_close(occupied, expected)


def test_ctc_trains_until_this_criterion_does(tones, tmp_path):
    from asr.config import build
    from asr.train import checkpoint
    from asr.train.config import TrainingConfig
    from asr.train.setup import make_trainer

    def train(name, criterion, crf_from, truncate):
        head = {"alphabet": "abcd", "criterion": criterion}
        settings = {
            "run": str(tmp_path / name),
            "data": {"train": [str(tones)], "dev": [str(tones)], "batch_frames": 120},
            "features": {"n_mels": 20},
            "model": {"hidden_size": 8, "layers": 1, "bidirectional": truncate is None},
            "heads": {"characters": head},
            "trainer": {"epochs": 2, "device": "cpu", "crf_from": crf_from, "truncate": truncate},
        }
        make_trainer(build(TrainingConfig, settings)).fit()
        return checkpoint.load(tmp_path / name / "epoch-002.safetensors")[0]

    for truncate in (None, 20):
        ctc = train(f"ctc{truncate}", "ctc", 0, truncate)
        later = train(f"later{truncate}", "ctc_crf", 2, truncate)
        second = train(f"second{truncate}", "ctc_crf", 1, truncate)
        assert all(torch.equal(ctc[name], later[name]) for name in ctc)
        assert not all(torch.equal(ctc[name], second[name]) for name in ctc)


def test_a_run_by_this_criterion_learns_and_is_judged_by_it(tones, tmp_path):
    from asr.config import build
    from asr.train.config import TrainingConfig
    from asr.train.setup import make_trainer

    settings = {
        "run": str(tmp_path / "run"),
        "data": {"train": [str(tones)], "dev": [str(tones)], "batch_frames": 120},
        "features": {"n_mels": 20},
        "model": {"hidden_size": 24, "layers": 1},
        "heads": {"characters": {"alphabet": "abcd", "criterion": "ctc_crf"}},
        "augment": {"speeds": [1.0], "time_masks": 0, "frequency_masks": 0},
        "optimizer": {"learning_rate": 0.02, "warmup_steps": 5},
        "trainer": {"epochs": 8, "ema": 0.9, "device": "cpu", "log_steps": 1},
    }
    trainer = make_trainer(build(TrainingConfig, settings))
    scores = trainer.fit().scores
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if entry["kind"] == "dev"]
    assert [score for score, _ in scores] == losses
    assert losses[-1] < 0.3 * losses[0]

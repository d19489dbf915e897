"""The forward algorithm, against all paths and against torch."""

from __future__ import annotations

import numpy as np
import pytest
from ctc_reference import LETTERS, random_log_probs, texts_of_all_paths

from asr.decode.lattice import ctc_log_likelihood, text_log_likelihoods
from asr.errors import DecodeError
from asr.text.vocabulary import Vocabulary


def test_sums_all_paths() -> None:
    vocabulary = Vocabulary.phones(
        ["a", "b"]
    )  # no space: every label sequence is a text of its own
    rng = np.random.default_rng(0)
    for frames in range(7):
        log_probs = random_log_probs(rng, frames, len(vocabulary))
        expected = texts_of_all_paths(log_probs, vocabulary)
        targets = [vocabulary.encode(text) for text in expected]
        found = np.exp(ctc_log_likelihood(log_probs, targets))
        assert found == pytest.approx([*expected.values()])
        assert found.sum() == pytest.approx(1.0)


def test_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    log_probs = random_log_probs(rng, 80, len(LETTERS)).astype(np.float64)
    texts = ["a", "hello there", "aabbccddee", "the quick brown fox jumps over", ""]
    targets = [LETTERS.encode(text) for text in texts]
    lengths = torch.tensor([len(target) for target in targets])
    losses = torch.nn.functional.ctc_loss(
        torch.tensor(log_probs)[:, None].expand(-1, len(targets), -1),
        torch.tensor([label for target in targets for label in target]),
        torch.full((len(targets),), len(log_probs)),
        lengths,
        reduction="none",
    )
    assert ctc_log_likelihood(log_probs, targets) == pytest.approx((-losses).tolist())


def test_what_does_not_fit_or_is_impossible_is_minus_infinity() -> None:
    log_probs = random_log_probs(np.random.default_rng(2), 3, 4)
    log_probs[:, 3] = -np.inf
    found = ctc_log_likelihood(log_probs, [[1, 2, 1], [1, 1], [1, 1, 2], [1, 2, 1, 2], [3]])
    assert np.isfinite(found).tolist() == [True, True, False, False, False]


def test_scorer_spells_texts() -> None:
    log_probs = random_log_probs(np.random.default_rng(3), 20, len(LETTERS))
    found = text_log_likelihoods(log_probs, ["a b", "señor", "c"], LETTERS)
    expected = ctc_log_likelihood(log_probs, [LETTERS.encode("a b"), LETTERS.encode("c")])
    assert [found[0], found[2]] == pytest.approx(expected.tolist())
    assert found[1] == -np.inf
    assert text_log_likelihoods(log_probs, [], LETTERS).size == 0


@pytest.mark.parametrize(
    ("log_probs", "targets", "cause"),
    [
        (np.zeros(4), [[1]], r"shape \(4,\)"),
        (np.zeros((2, 4), int), [[1]], "int64"),
        (np.zeros((2, 4)), [[1], [0]], "blank or a class beyond the 4"),
        (np.zeros((2, 4)), [[4]], "beyond"),
        (np.zeros((2, 4)), [[-1]], "beyond"),
    ],
)
def test_refuses(log_probs: np.ndarray, targets: list[list[int]], cause: str) -> None:
    with pytest.raises(DecodeError, match=cause):
        ctc_log_likelihood(log_probs, targets)

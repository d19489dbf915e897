"""Expected word errors against a sum over all texts, written out."""

import math

import pytest

torch = pytest.importorskip("torch")

from asr.errors import ConfigError  # noqa: E402
from asr.metrics import word_errors  # noqa: E402
from asr.text.targets import Spelling  # noqa: E402
from asr.text.vocabulary import Vocabulary  # noqa: E402
from asr.train.config import HeadSettings, ListConfig  # noqa: E402
from asr.train.expected import ExpectedErrors, list_decoder  # noqa: E402
from tests.train.test_crf import likelihoods  # noqa: E402

LETTERS = Vocabulary.characters("ab")  # blank, space, a, b
EVERYTHING = ListConfig(
    nbest=200, beam=500, beam_threshold=1e3, token_threshold=1e3, word_bonus=0.3, lm_weight=0.0
)


def expected_errors(config=EVERYTHING, vocabulary=LETTERS):
    decoder = list_decoder(vocabulary, None, None, config)
    return ExpectedErrors(decoder, Spelling(vocabulary), config.nbest)


def random_log_probs(*shape):
    generator = torch.Generator().manual_seed(3)
    return (2 * torch.randn(shape, generator=generator)).log_softmax(-1)


def written_out(log_probs, reference, bonus):
    """The sum over all texts of share x errors. Texts that differ in spaces alone are one text,
    spelled without those that are too many, as `Spelling` does."""
    shares = {}
    for symbols, likelihood in likelihoods(log_probs).items():
        text = LETTERS.decode(symbols)
        if list(symbols) == LETTERS.encode(text):
            shares[text] = likelihood * math.exp(bonus * len(text.split()))
    whole = sum(shares.values())
    return sum(share * word_errors(reference, text) for text, share in shares.items()) / whole


def test_it_is_the_mean_over_all_texts():
    log_probs, lengths = random_log_probs(2, 5, 4), torch.tensor([5, 3])
    texts = ["A b", "ba"]
    found = expected_errors()(log_probs, lengths, texts)
    for row, length, text, value in zip(log_probs, lengths, texts, found, strict=True):
        wanted = written_out(row[:length], text.lower(), EVERYTHING.word_bonus)
        assert float(value) == pytest.approx(wanted, rel=1e-4)


def test_padding_and_neighbours_change_nothing():
    log_probs, lengths = random_log_probs(3, 6, 4), torch.tensor([6, 4, 5])
    texts = ["a b", "", "b"]
    together = expected_errors()(log_probs, lengths, texts)
    alone = [
        expected_errors()(log_probs[i : i + 1, :n], lengths[i : i + 1], texts[i : i + 1])
        for i, n in enumerate(lengths)
    ]
    torch.testing.assert_close(together, torch.cat(alone))


def test_the_gradient_takes_errors_away():
    logits = torch.zeros(1, 8, 4, requires_grad=True)
    logits.data += random_log_probs(1, 8, 4)
    errors_of = expected_errors()
    optimizer = torch.optim.Adam([logits], 0.1)
    course = []
    for _ in range(60):
        optimizer.zero_grad()
        (errors,) = errors_of(logits.log_softmax(-1), torch.tensor([8]), ["a b"])
        errors.backward()
        optimizer.step()
        course.append(errors.item())
    assert course[0] > 1
    assert course[-1] < 0.1


def test_what_is_no_number_is_left_to_the_trainer():
    log_probs = torch.full((1, 3, 4), torch.nan)
    assert expected_errors()(log_probs, torch.tensor([3]), ["a"]).isnan().all()


def test_only_ctc_has_lists():
    with pytest.raises(ConfigError, match="only for CTC"):
        HeadSettings(kind="transducer", expected_errors=1.0)
    with pytest.raises(ConfigError, match="at least 2"):
        ListConfig(nbest=1)

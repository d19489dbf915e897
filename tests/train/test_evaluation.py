import math

import pytest

torch = pytest.importorskip("torch")

from asr.data.dataset import Batch  # noqa: E402
from asr.models.heads import CTCHead  # noqa: E402
from asr.text.phones import TIMIT_61  # noqa: E402
from asr.text.vocabulary import Vocabulary  # noqa: E402
from asr.train.acoustic import count_errors  # noqa: E402


class Network:
    """Gives the same output to everything."""

    primary = "only"

    def __init__(self, log_probs: torch.Tensor):
        self.log_probs = log_probs

    def __call__(self, features, lengths):
        return self.log_probs, lengths

    def head(self):
        return CTCHead(1, self.log_probs.shape[-1])


def counts(
    vocabulary: Vocabulary, heard: list[str], said: str, target: list[int] | None = None
) -> list[float]:
    """Errors of a network that emits the symbols `heard`, a blank after each."""
    classes = [c for symbol in heard for c in (vocabulary.symbols.index(symbol), 0)]
    log_probs = torch.nn.functional.one_hot(torch.tensor([classes]), len(vocabulary)).float()
    lengths = torch.tensor([len(classes)])
    targets = torch.tensor([target or []], dtype=torch.long)
    n_targets = torch.tensor([-1 if target is None else len(target)])
    batch = Batch(
        torch.zeros(1, len(classes), 1), lengths, {"only": targets}, {"only": n_targets}, [said]
    )
    return count_errors(Network(log_probs), [batch], vocabulary).tolist()


def test_words_and_characters_of_normalised_text():
    vocabulary = Vocabulary.characters("abc")
    assert counts(vocabulary, list("ab cb"), "Ab, ca!")[:4] == [1, 2, 1, 5]


def test_timits_phones_are_scored_as_39():
    """ix and ih, or closures and silence, are the same; the glottal stop is none; ae is not aa."""
    vocabulary = Vocabulary.phones(TIMIT_61)
    said = "h# q ih kcl k ae ax-h h#"
    heard = "pau ix tcl k aa ah epi".split()
    assert counts(vocabulary, heard, said)[:4] == [1, 7, 1, 7]


def test_the_loss_is_that_of_the_first_head():
    """Two frames, of which either or both may be `a`: e^1 each for a blank, e^0 for an a."""
    vocabulary = Vocabulary.characters("a")
    assert counts(vocabulary, ["a"], "a")[4:] == [0, 0]
    loss, symbols = counts(vocabulary, ["a"], "a", target=[vocabulary.symbols.index("a")])[4:]
    # paths a-, -a, aa over the outputs (1 for a, then 1 for -): e^2 + e^0 + e^1
    assert loss == pytest.approx(-math.log(math.e**2 + 1 + math.e), rel=1e-5)
    assert symbols == 1
    impossible = [vocabulary.symbols.index("a")] * 3
    assert counts(vocabulary, ["a"], "a", target=impossible)[4:] == [0, 0]

import pytest

torch = pytest.importorskip("torch")

from asr.data.dataset import Batch  # noqa: E402
from asr.text.phones import TIMIT_61  # noqa: E402
from asr.text.vocabulary import Vocabulary  # noqa: E402
from asr.train.evaluation import count_errors  # noqa: E402


def counts(vocabulary: Vocabulary, heard: list[str], said: str) -> list[float]:
    """Errors of a network that emits the symbols `heard`, a blank after each."""
    classes = [c for symbol in heard for c in (vocabulary.symbols.index(symbol), 0)]
    log_probs = torch.nn.functional.one_hot(torch.tensor([classes]), len(vocabulary)).float()
    lengths = torch.tensor([len(classes)])
    batch = Batch(torch.zeros(1, len(classes), 1), lengths, {}, {}, [said])
    return count_errors(lambda features, n: (log_probs, n), [batch], vocabulary).tolist()


def test_words_and_characters_of_normalised_text():
    vocabulary = Vocabulary.characters("abc")
    assert counts(vocabulary, list("ab cb"), "Ab, ca!") == [1, 2, 1, 5]


def test_timits_phones_are_scored_as_39():
    """ix and ih, or closures and silence, are the same; the glottal stop is none; ae is not aa."""
    vocabulary = Vocabulary.phones(TIMIT_61)
    said = "h# q ih kcl k ae ax-h h#"
    heard = "pau ix tcl k aa ah epi".split()
    assert counts(vocabulary, heard, said) == [1, 7, 1, 7]

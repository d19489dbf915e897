"""Kneser-Ney estimation against a slow implementation that follows the paper word by word."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import LanguageModelError
from asr.lm.counts import ALL_WORDS, Tokenizer, VocabularyChoice, count_ngrams
from asr.lm.kneser_ney import estimate, train

SENTENCES = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=6), min_size=1)
ENOUGH = [  # for proper discounts of orders 1 to 3
    "the cat sat on the mat",
    "the cat ate the fish",
    "the dog sat on the cat",
    "a dog ate the mat",
    "a fish sat on a mat on the mat",
    "dogs and cats sat",
    "the fish and the cat and the dog",
    "on the mat sat the cat",
]


class Reference:
    """Chen and Goodman (1998) with dictionaries."""

    def __init__(self, sentences: list[list[str]], order: int, thresholds: list[int]):
        self.order, self.thresholds = order, thresholds
        self.raw: list[Counter] = [Counter() for _ in range(order + 2)]
        for words in sentences:
            padded = ["<s>", *words, "</s>"]
            for n in range(1, order + 2):
                for i in range(len(padded) - n + 1):
                    self.raw[n][tuple(padded[i : i + n])] += 1
        del self.raw[1][("<s>",)]
        self.words = {"<unk>"} | {word for (word,) in self.raw[1]}
        self.adjusted: list[dict] = [{}]
        for n in range(1, order + 1):
            left = Counter(ngram[1:] for ngram in self.raw[n + 1]) if n < order else {}
            self.adjusted.append(
                {
                    g: count if n == order or g[0] == "<s>" else left[g]
                    for g, count in self.raw[n].items()
                }
            )
        self.discounts = [(0.0, 0.0, 0.0, 0.0)]
        self.discounts += [self._discounts(self.adjusted[n]) for n in range(1, order + 1)]

    @staticmethod
    def _discounts(adjusted: dict) -> tuple[float, ...]:
        n1, n2, n3, n4 = (sum(c == k for c in adjusted.values()) for k in (1, 2, 3, 4))
        try:
            y = n1 / (n1 + 2 * n2)
            result = (0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        except ZeroDivisionError:
            return (0, 0.5, 1.0, 1.5)
        return result if min(result[1:]) > 0 else (0, 0.5, 1.0, 1.5)

    def probability(self, word: str, history: tuple[str, ...]) -> float:
        n = len(history) + 1
        lower = self.probability(word, history[1:]) if history else 1 / len(self.words)
        adjusted, discounts = self.adjusted[n], self.discounts[n]
        after = {g: c for g, c in adjusted.items() if g[:-1] == history}
        if not after:
            return lower
        kept = {g for g in after if n == 1 or self.raw[n][g] > self.thresholds[n - 1]}
        saved = sum(discounts[min(c, 3)] if g in kept else c for g, c in after.items())
        seen = 0.0
        if (g := (*history, word)) in kept:
            seen = after[g] - discounts[min(after[g], 3)]
        return (seen + saved * lower) / sum(after.values())


def _assert_equal(sentences: list[list[str]], order: int, prune: list[int]) -> None:
    (model,) = train([sentences], order, prune=prune)
    reference = Reference(sentences, order, prune)
    known = sorted(reference.words - {"<unk>", "</s>"})
    histories = [(), ("<s>",), *itertools.product(known[:3], repeat=2), ("<s>", known[0])]
    histories += [("<s>", *words[: order - 2]) for words in sentences[:4]]
    for history in histories:
        node = np.zeros(1, np.int32)
        for word in history[-order + 1 :] if order > 1 else ():
            # <s> has a node of its own, though nothing leads there.
            node = model.step(node, np.array([model.words.index(word)]))[1]
        history = history[max(0, len(history) - order + 1) :] if order > 1 else ()
        for word in reference.words:
            got = np.exp(model.step(node, np.array([model.words.index(word)]))[0][0])
            assert got == pytest.approx(reference.probability(word, history), rel=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("prune", [[0], [0, 0, 1], [0, 1]])
def test_probabilities_are_those_of_the_paper(order, prune):
    thresholds = [*prune, *[prune[-1]] * 4][:order]
    _assert_equal([s.split() for s in ENOUGH], order, thresholds)


def test_discounts_are_those_of_the_paper(caplog):
    reference = Reference([s.split() for s in ENOUGH], 2, [0, 0])
    assert reference.discounts[1] != (0, 0.5, 1.0, 1.5)
    _assert_equal([s.split() for s in ENOUGH], 2, [0, 0])
    train([[["a", "b"]]], 2)
    assert "too little text to estimate the discounts of order 2" in caplog.text


@settings(max_examples=25, deadline=None)
@given(sentences=SENTENCES, order=st.integers(1, 4), threshold=st.integers(0, 2))
def test_any_text_gives_the_probabilities_of_the_paper(sentences, order, threshold):
    _assert_equal(sentences, order, [0, *[threshold] * (order - 1)])


@settings(max_examples=25, deadline=None)
@given(sentences=SENTENCES, order=st.integers(1, 4), threshold=st.integers(0, 1))
def test_after_every_history_the_probabilities_sum_to_one(sentences, order, threshold):
    (model,) = train([sentences], order, prune=[0, threshold][:order])
    words = np.arange(len(model.words))
    for node in range(len(model)):
        log_probs, _ = model.step(np.full(len(words), node), words)
        assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(sentences=SENTENCES, chunk=st.integers(1, 40))
def test_counting_in_little_memory_gives_the_same_counts(sentences, chunk, tmp_path_factory):
    tokenizer = Tokenizer()
    folder = tmp_path_factory.mktemp("counts")
    tokenizer.add(sentences, folder / "corpus")
    words = tokenizer.vocabulary(ALL_WORDS)
    (tokens,) = tokenizer.corpora(words)
    once = count_ngrams(tokens, len(words), 3, folder)
    keys, counts = np.array(once.keys), np.array(once.counts)
    pieces = count_ngrams(tokens, len(words), 3, folder, chunk=chunk)
    np.testing.assert_array_equal(pieces.keys, keys)
    np.testing.assert_array_equal(pieces.counts, counts)
    np.testing.assert_array_equal(pieces.offsets, once.offsets)
    assert counts.sum() == sum(len(s) + 2 + max(0, len(s) + 1) + max(0, len(s)) for s in sentences)


@settings(max_examples=25, deadline=None)
@given(
    sentences=SENTENCES,
    chunk=st.integers(1, 40),
    order=st.integers(1, 4),
    threshold=st.integers(0, 1),
)
def test_estimating_in_little_memory_gives_the_same_model(
    sentences, chunk, order, threshold, tmp_path_factory
):
    tokenizer = Tokenizer()
    folder = tmp_path_factory.mktemp("counts")
    tokenizer.add(sentences, folder / "corpus")
    words = tokenizer.vocabulary(ALL_WORDS)
    (tokens,) = tokenizer.corpora(words)
    counts = count_ngrams(tokens, len(words), order, folder)
    models = []
    for size in (1 << 20, chunk):
        own = folder / str(size)
        own.mkdir()
        prune = [0, threshold][:order]
        models.append(estimate(counts, words, own, prune, chunk=size))
    whole, pieces = models
    for name in ("parent", "word", "log_prob", "backoff", "frequency"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))


def test_the_vocabulary_can_be_chosen():
    sentences = [s.split() for s in ENOUGH]
    counts = Counter(word for words in sentences for word in words)

    def vocabulary(**choice) -> set[str]:
        (model,) = train([sentences], 2, vocabulary=VocabularyChoice(**choice))
        return {*model.words} - {"<unk>", "<s>", "</s>"}

    assert vocabulary(min_count=3) == {word for word, count in counts.items() if count >= 3}
    assert vocabulary(size=5) == {word for word, _ in counts.most_common(2)}
    assert vocabulary(size=5, also=["zebra", "the"]) == vocabulary(size=5) | {"zebra"}
    assert vocabulary(alphabet="aceht") == {"the", "cat", "ate", "a"}
    among = {"the", "cat", "zebra"}
    assert vocabulary(among=among) == {"the", "cat"}
    assert vocabulary(among=among, also=["zebra", "yak"]) == among


def test_what_the_vocabulary_lacks_is_learnt_as_the_unknown_word():
    choice = VocabularyChoice(size=5, also=["zebra"])
    (model,) = train([[s.split() for s in ENOUGH]], 2, vocabulary=choice)
    ((unknown, _),) = model.score([["quagga"]])
    ((unseen, _),) = model.score([["zebra"]])
    assert np.exp(unknown) > 0.2
    assert 0 < np.exp(unseen) < 0.05


def test_several_corpora_share_a_vocabulary():
    first, second = train([[["a", "b"]], [["c"]]], 2)
    assert list(first.words) == list(second.words) == ["<unk>", "<s>", "</s>", "a", "b", "c"]
    assert np.isfinite(first.score([["c"]])[0]).all()


def test_corpora_can_be_pooled():
    first, second = [["a", "b"], ["a"]], [["c", "a"]]
    *_, pooled = train([first, second], 2, pooled=True)
    (together,) = train([first + second], 2)
    assert list(pooled.words) == list(together.words)
    np.testing.assert_array_equal(pooled.log_prob, together.log_prob)
    np.testing.assert_array_equal(pooled.frequency, together.frequency)


def test_frequencies_are_those_of_the_text():
    (model,) = train([[["a", "b"], ["a"]]], 2)
    frequencies = dict(zip(model.ngrams(2), model.frequency[model.level(2)].tolist(), strict=True))
    start, end, a, b = (model.words.index(word) for word in ("<s>", "</s>", "a", "b"))
    assert frequencies == pytest.approx(
        {(start, a): 2 / 5, (a, b): 1 / 5, (b, end): 1 / 5, (a, end): 1 / 5}
    )


@pytest.mark.parametrize("prune", [[1], [0, 2, 1], [0, 0, 0, 0]])
def test_thresholds_that_make_no_sense_are_refused(prune):
    with pytest.raises(LanguageModelError, match="thresholds"):
        train([[["a"]]], 3, prune=prune)


@pytest.mark.parametrize("sentences", [[], [["<s>", "a"]], [["a", "</s>"]]])
def test_text_that_is_none_is_refused(sentences):
    with pytest.raises(LanguageModelError):
        train([sentences], 2)

"""How words sound that a lexicon lacks, by the example of those that it has.

Every letter of a known word is taken to stand for none, one or two of its phones, in turn. Which,
is found by Viterbi training: the best division of all words, given how often each letter stood
for what in the division before. A letter of a new word then sounds as it did between the same
neighbours, the nearer of which count if the farther were never seen together (after van den Bosch &
Daelemans 1993, "Data-oriented methods for grapheme-to-phoneme conversion"; what wider and narrower
windows say is interpolated as Witten & Bell 1991 do with n-grams).
"""

from __future__ import annotations

import heapq
import math
import threading
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from asr.compiled import compiled
from asr.errors import DecodeError
from asr.lexicon import Lexicon, unit_labels
from asr.text.vocabulary import Vocabulary

MAX_PRONUNCIATIONS = 3  # pronunciations of a word
_MIN_RATIO = 0.1  # of the probability of the best; what is less probable is left out
_ROUNDS = 5  # of Viterbi training,
_TRAINING_WORDS = 10_000  # from about this many words
_UNSEEN = 0.01  # how often everything was seen besides
# A window is the letter that is pronounced with the neighbours at the first few of these places.
_PLACES = (0, 1, -1, 2, -2, 3, -3)
_REACH = 3  # of the widest

Integers = NDArray[np.int64]
Chunks = NDArray[np.int32]


class Speller:
    """Spells words for a vocabulary: with its characters, or as a lexicon of phones pronounces.

    Words that the lexicon lacks are pronounced by its example. To learn that takes half a second
    once, at the first such word or in `learn`; any thread may ask.
    """

    def __init__(self, vocabulary: Vocabulary, lexicon: Lexicon | None):
        self._lexicon = lexicon if vocabulary.kind == "phones" else None
        self._labels = {label: i for i, label in enumerate(unit_labels(vocabulary))}
        self._vocabulary = vocabulary
        self._pronouncer: Pronouncer | None = None
        self._lock = threading.Lock()

    def __call__(self, word: str) -> list[list[int]] | None:
        """The labels of each pronunciation of a word; None if it is known without.

        Raises DecodeError for a word that cannot be spelled.
        """
        if self._lexicon is None:
            are_words = self._vocabulary.kind == "phones"
            units = {word} if are_words else set(self._vocabulary.letters(word))
            if unknown := units - self._labels.keys():
                raise DecodeError(
                    f"the model's vocabulary lacks {' '.join(sorted(unknown))}",
                    "write it with the letters of the language",
                )
            return None
        if word in self._lexicon:
            return None
        pronouncer = self.learn()
        assert pronouncer is not None
        return pronouncer(word)

    def learn(self) -> Pronouncer | None:
        """Get ready for words that the lexicon lacks; None where none are pronounced."""
        with self._lock:
            if self._pronouncer is None and self._lexicon is not None:
                self._pronouncer = Pronouncer(self._lexicon)
            return self._pronouncer


class Pronouncer:
    """Learns from the words of a lexicon of phones.

    >>> from asr.text.vocabulary import Vocabulary
    >>> spelled = {word: [list(word.upper())] for word in ("bad", "cab", "dab")}
    >>> lexicon = Lexicon.from_pronunciations(spelled, Vocabulary.phones("ABCD"))
    >>> [[lexicon.labels[i] for i in phones] for phones in Pronouncer(lexicon)("abac")]
    [['A', 'B', 'A', 'C']]
    """

    def __init__(self, lexicon: Lexicon):
        entries = [(w, s) for w, s in lexicon.entries() if len(s) <= 2 * len(w)]
        self._letters = {x: i for i, x in enumerate(sorted(set("".join(w for w, _ in entries))), 1)}
        self._phones = len(lexicon.labels)
        letters = self._padded(*(word for word, _ in entries))
        at = np.flatnonzero(letters)
        ends = np.cumsum([(0, 0), *((len(w), len(s)) for w, s in entries)], axis=0)
        phones = np.fromiter(chain.from_iterable(s for _, s in entries), np.int64, ends[-1, 1])
        chunks = _divided(letters[at], phones, ends, len(self._letters) + 1, self._phones)
        # Sorted by the widest window, those of any narrower one are neighbours.
        codes = self._codes(letters, at)
        order = np.argsort(codes)
        self._seen, self._chunks = codes[order], chunks[order]

    def __call__(self, word: str) -> list[list[int]]:
        """The best pronunciations of a word, as labels: MAX_PRONUNCIATIONS at most, best first.

        Raises DecodeError for letters that no known word has, or that are all silent.
        """
        unknown = sorted({letter for letter in word if letter not in self._letters})
        if unknown:
            raise DecodeError(
                f"no word of the lexicon tells how {' '.join(unknown)} in {word!r} is pronounced",
                "write it with the letters of the language",
            )
        letters = self._padded(word)
        found: dict[tuple[int, ...], float] = {(): 0.0}
        for place in np.flatnonzero(letters):
            probable = self._probable(letters, int(place))
            longer: dict[tuple[int, ...], float] = {}
            for phones, cost in found.items():
                for chunk, probability in probable.items():
                    key = phones + _phones_of(chunk, self._phones)
                    longer[key] = min(longer.get(key, math.inf), cost - math.log(probability))
            found = dict(
                heapq.nsmallest(4 * MAX_PRONUNCIATIONS, longer.items(), key=lambda item: item[1])
            )
        found.pop((), None)
        if not found:
            raise DecodeError(f"{word!r} is not pronounced at all", "write it as it sounds")
        best = heapq.nsmallest(MAX_PRONUNCIATIONS, found.items(), key=lambda item: item[1])
        return [list(p) for p, cost in best if cost <= best[0][1] - math.log(_MIN_RATIO)]

    def _probable(self, letters: Integers, place: int) -> dict[int, float]:
        """What the letter at `place` may stand for, with probabilities."""
        probable: dict[int, float] = {}
        code = int(self._codes(letters, np.array([place]))[0])
        for n_outside in reversed(range(len(_PLACES))):
            size = (len(self._letters) + 1) ** n_outside
            window = code // size
            begin, end = np.searchsorted(self._seen, [window * size, (window + 1) * size])
            if begin == end:
                break
            kinds, counts = np.unique(self._chunks[begin:end], return_counts=True)
            narrower = len(kinds) / (len(kinds) + end - begin) if probable else 0.0
            probable = {chunk: narrower * share for chunk, share in probable.items()}
            for chunk, count in zip(kinds.tolist(), counts.tolist(), strict=True):
                share = (1 - narrower) * count / (end - begin)
                probable[chunk] = probable.get(chunk, 0.0) + share
        return probable

    def _padded(self, *words: str) -> Integers:
        """Numbers of the letters of one word after the other, with enough zeros around each."""
        gap = "\0" * _REACH
        text = "".join(f"{gap}{word}" for word in words) + gap
        points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        known = np.array([0, *map(ord, self._letters)], np.uint32)
        return np.searchsorted(known, points)

    def _codes(self, letters: Integers, at: Integers) -> Integers:
        """One number for what is in the widest window around each place of `at`."""
        base, codes = len(self._letters) + 1, np.zeros(len(at), np.int64)
        for offset in _PLACES:
            codes = codes * base + letters[at + offset]
        return codes


def _divided(
    letters: Integers, phones: Integers, ends: Integers, n_letters: int, n_phones: int
) -> Chunks:
    """What each letter stands for: a chunk of phones, see `_phones_of`.

    `ends` (1 + words, 2): where the letters and the phones of each word end, from 0 on.
    """
    n_chunks = 1 + n_phones + n_phones**2
    chunks = np.zeros(len(letters), np.int32)
    costs = np.zeros((0, 0))  # at first evenly
    step = 1 + len(ends) // _TRAINING_WORDS
    for _ in range(_ROUNDS):
        divided = _divide(letters, phones, ends, step, costs, n_phones, chunks)
        kinds = letters[divided] * n_chunks + chunks[divided]
        seen = np.bincount(kinds, minlength=n_letters * n_chunks)
        counts = seen.reshape(n_letters, n_chunks) + _UNSEEN
        costs = -np.log(counts / counts.sum(axis=1, keepdims=True))
    _divide(letters, phones, ends, 1, costs, n_phones, chunks)
    return chunks


def _phones_of(chunk: int, n_phones: int) -> tuple[int, ...]:
    """Chunk 0 is none, 1 to n_phones are single phones, the rest are pairs."""
    if chunk <= n_phones:
        return (chunk - 1,) if chunk else ()
    return divmod(chunk - 1 - n_phones, n_phones)


@compiled
def _divide(
    letters: Integers,
    phones: Integers,
    ends: Integers,
    step: int,
    costs: NDArray[np.float64],
    n_phones: int,
    chunks: Chunks,
) -> NDArray[np.bool_]:
    """Fill in the division that costs least of one word in `step`; without costs, an even one.

    Returns which letters are divided now.
    """
    divided = np.zeros(len(letters), np.bool_)
    n = m = 0
    for word in range(1, len(ends)):
        n, m = max(n, ends[word, 0] - ends[word - 1, 0]), max(m, ends[word, 1] - ends[word - 1, 1])
    best = np.empty((n + 1, m + 1))
    taken = np.zeros((n + 1, m + 1), np.int32)
    for word in range(1, len(ends), step):
        letter_begin, phone_begin = ends[word - 1]
        letter_end, phone_end = ends[word]
        n, m = letter_end - letter_begin, phone_end - phone_begin
        best[: n + 1, : m + 1] = np.inf
        best[0, 0] = 0.0
        for i in range(1, n + 1):
            letter = letters[letter_begin + i - 1]
            for j in range(m + 1):
                for size in range(min(j, 2) + 1):
                    chunk = 0
                    if size == 1:
                        chunk = 1 + phones[phone_begin + j - 1]
                    elif size == 2:
                        first, second = phones[phone_begin + j - 2], phones[phone_begin + j - 1]
                        chunk = 1 + n_phones + first * n_phones + second
                    cost = abs(i * m - j * n) if len(costs) == 0 else costs[letter, chunk]
                    if best[i - 1, j - size] + cost < best[i, j]:
                        best[i, j] = best[i - 1, j - size] + cost
                        taken[i, j] = chunk
        j = m
        for i in range(n, 0, -1):
            chunk = taken[i, j]
            chunks[letter_begin + i - 1] = chunk
            j -= 0 if chunk == 0 else 1 if chunk <= n_phones else 2
        divided[letter_begin:letter_end] = True
    return divided

"""Transcripts as class indices: what each head of a network is trained to emit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from asr.text.normalize import normalize
from asr.text.phones import Pronunciations
from asr.text.vocabulary import Vocabulary

# text, optional counter of unknown symbols -> class indices, or None: no target for this text
Targets = Callable[..., "list[int] | None"]


class Spelling:
    """Characters or pieces of the normalised text.

    >>> Spelling(Vocabulary.characters("abc"))("A cab!")
    [2, 1, 4, 2, 3]
    """

    def __init__(self, vocabulary: Vocabulary, normalizer: Callable[[str], str] = normalize):
        self.vocabulary = vocabulary
        self._normalize = normalizer

    def __call__(self, text: str, unknown: Counter[str] | None = None) -> list[int]:
        return self.vocabulary.encode(self._normalize(text), unknown)


class Pronunciation:
    """Phones of the normalised text: the most usual pronunciation of each word.

    A text with a word that the dictionary lacks has no target (None): a network's other heads
    learn from it, this one does not.

    >>> lexicon = {"a": [("AH",), ("EY",)], "cab": [("K", "AE", "B")]}
    >>> spell = Pronunciation(Vocabulary.phones(["AE", "AH", "B", "K"]), lexicon)
    >>> spell("A cab!"), spell("a taxi")
    ([2, 4, 1, 3], None)
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        lexicon: Pronunciations,
        normalizer: Callable[[str], str] = normalize,
    ):
        self.vocabulary = vocabulary
        self._lexicon = lexicon
        self._normalize = normalizer

    def __call__(self, text: str, unknown: Counter[str] | None = None) -> list[int] | None:
        words = self._normalize(text).split()
        if not all(word in self._lexicon for word in words):
            return None
        return self.vocabulary.encode(" ".join(p for w in words for p in self._lexicon[w][0]))

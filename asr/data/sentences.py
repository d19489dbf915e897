"""Text as symbols: the vocabulary of a language model, and batches of sentences."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from asr.errors import LanguageModelError
from asr.text.vocabulary import BLANK, UNKNOWN, Vocabulary

_PIECES_FROM = 10_000_000  # characters of text that pieces are learned from


@dataclass(frozen=True)
class Sentences:
    """Symbols of all sentences in one array; sentence i is symbols[offsets[i]:offsets[i + 1]]."""

    symbols: np.ndarray
    offsets: np.ndarray

    @classmethod
    def encode(
        cls, sentences: Iterable[Sequence[str]], vocabulary: Vocabulary, most_symbols: int
    ) -> Sentences:
        """Spell sentences, each a list of words; pieces of longer ones are sentences too.

        Raises LanguageModelError for an empty text, VocabularyError for what cannot be spelled.
        """
        spell = vocabulary.encode if vocabulary.kind == "characters" else _cached(vocabulary)
        symbols, lengths = [], []
        for words in sentences:
            spelled = spell(" ".join(words))
            symbols.append(np.array(spelled, np.int32))
            whole, rest = divmod(len(spelled), most_symbols)
            lengths += [most_symbols] * whole + [rest] * (rest > 0)
        if not lengths:
            raise LanguageModelError("no sentence in these texts")
        return cls(np.concatenate(symbols), np.cumsum([0, *lengths]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> list[int]:
        """Symbols of each sentence, its end included."""
        return (np.diff(self.offsets) + 1).tolist()

    def batch(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sentences padded with zeros (B, U), and their lengths (B,) without the ends."""
        begins, ends = self.offsets[chosen], self.offsets[np.asarray(chosen) + 1]
        padded = np.zeros((len(chosen), int((ends - begins).max())), np.int64)
        for row, begin, end in zip(padded, begins, ends, strict=True):
            row[: end - begin] = self.symbols[begin:end]
        return torch.from_numpy(padded), torch.from_numpy(ends - begins)


def character_vocabulary(alphabet: str) -> Vocabulary:
    """Space and letters, and `<unk>` for all others."""
    return Vocabulary((BLANK, " ", *alphabet, UNKNOWN))


def word_vocabulary(sentences: Iterable[Sequence[str]], size: int, alphabet: str) -> Vocabulary:
    """The most frequent words that `alphabet` spells, and `<unk>`: `size` classes in all."""
    counts = Counter(itertools.chain.from_iterable(sentences))
    letters = set(alphabet)
    spelled = ((-n, word) for word, n in counts.items() if letters.issuperset(word))
    frequent = sorted(spelled)[: size - 2]
    return Vocabulary((BLANK, *(word for _, word in frequent), UNKNOWN), "words")


def piece_vocabulary(sentences: Iterable[Sequence[str]], size: int, alphabet: str) -> Vocabulary:
    """Pieces of the words that `alphabet` spells, and `<unk>`: `size` classes in all."""
    from asr.text.vocabulary import train_pieces

    letters, texts, left = set(alphabet), [], _PIECES_FROM
    for words in sentences:
        texts.append(" ".join(word for word in words if letters.issuperset(word)))
        left -= len(texts[-1])
        if left < 0:
            break
    learned = train_pieces(texts, size - 1)
    return Vocabulary((*learned.symbols, UNKNOWN), "pieces")


def _cached(vocabulary: Vocabulary):
    """`vocabulary.encode` for units that end with the word: each word is spelled once."""
    known: dict[str, list[int]] = {}

    def spell(text: str) -> list[int]:
        spelled = []
        for word in text.split():
            if word not in known:
                known[word] = vocabulary.encode(word)
            spelled += known[word]
        return spelled

    return spell

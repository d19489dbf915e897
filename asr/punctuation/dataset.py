"""Written text as examples for the restoring of case and punctuation."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from asr.errors import TrainingError
from asr.punctuation.labels import CAPITAL, UNKNOWN_CASE, Labelled, capitalized, rows_of

_MIN_COUNT = 3  # of a form that is taken for the usual one of a word


@dataclass(frozen=True)
class Written:
    """All words of a text, in one array; example i is words[offsets[i]:offsets[i + 1]].

    words: which row of `rows` each is, (words,); labels: mark and case of each, (words, 2), where
    the case of a word that begins a sentence is unknown; rows: the rows of the network's table for
    each distinct word, (distinct, KEYS). forms: of words with
    capitals in other places than the first. left_out: lines that do not show how they should be
    written.
    """

    words: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    rows: np.ndarray
    forms: Mapping[str, str]
    left_out: int

    @classmethod
    def encode(
        cls,
        lines: Iterable[Labelled | None],
        table: int,
        *,
        join: int = 1,
        most_words: int = 100,
        seed: int = 0,
    ) -> Written:
        """Lines as examples: of one to `join` neighbours each, of `most_words` at most.

        `table`: rows of the network's table. Raises TrainingError if no line can be used.
        """
        rng = np.random.default_rng(seed)
        known: dict[str, int] = {}
        capitals: dict[str, Counter[str]] = defaultdict(Counter)
        words, marks, cases, offsets = array("i"), array("b"), array("b"), [0]
        left_out, more = 0, 0
        for line in lines:
            if line is None:
                left_out += 1
                continue
            n_words = len(words) + len(line.words) - offsets[-1]
            if len(words) > offsets[-1] and (more == 0 or n_words > most_words):
                offsets.append(len(words))
                more = 0
            if len(words) == offsets[-1]:
                more = int(rng.integers(1, join + 1))
            more -= 1
            words.extend(known.setdefault(word, len(known)) for word in line.words)
            marks.extend(line.marks)
            told = [
                UNKNOWN_CASE if begins else case
                for begins, case in zip(line.begins, line.cases, strict=True)
            ]
            cases.extend(told)
            for word, form, case in zip(line.words, line.forms, told, strict=True):
                if case == CAPITAL:
                    capitals[word][form] += 1
            while len(words) - offsets[-1] > most_words:
                offsets.append(offsets[-1] + most_words)
        if not words:
            raise TrainingError(
                "no line in these texts has a capital at its beginning and a mark at its end",
                "give text as it is written",
            )
        if offsets[-1] < len(words):
            offsets.append(len(words))
        return cls(
            np.array(words, np.int32),
            np.stack([np.array(marks, np.int8), np.array(cases, np.int8)], axis=1),
            np.array(offsets),
            np.array([rows_of(word, table) for word in known], np.int32),
            special_forms(capitals),
            left_out,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> list[int]:
        """Words of each example."""
        return np.diff(self.offsets).tolist()

    def batch(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (B, U, KEYS), labels (B, U, 2), padded, and lengths (B,) of some examples."""
        begins, ends = self.offsets[chosen], self.offsets[np.asarray(chosen) + 1]
        longest = int((ends - begins).max())
        rows = np.zeros((len(chosen), longest, self.rows.shape[1]), np.int64)
        labels = np.full((len(chosen), longest, 2), UNKNOWN_CASE, np.int64)
        for i, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            rows[i, : end - begin] = self.rows[self.words[begin:end]]
            labels[i, : end - begin] = self.labels[begin:end]
        return torch.from_numpy(rows), torch.from_numpy(labels), torch.from_numpy(ends - begins)


def special_forms(capitals: Mapping[str, Counter[str]]) -> dict[str, str]:
    """Words that have capitals in other places than the first, in their most frequent form.

    >>> special_forms({"mccoy": Counter(McCoy=3, Mccoy=1), "tom": Counter(Tom=5, TOm=1)})
    {'mccoy': 'McCoy'}
    """
    usual = {word: forms.most_common(1)[0] for word, forms in capitals.items()}
    return {
        word: form
        for word, (form, count) in sorted(usual.items())
        if form != capitalized(word) and form.lower() == word and count >= _MIN_COUNT
    }

"""Error rates: how many words or characters must change to turn what was recognised into what was
said, and how sure the figure is.

Every test set is a figure of its own: rates of different sets are never pooled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import MissingDependencyError
from asr.text.written import MARKS, UNKNOWN_CASE, Labelled

if TYPE_CHECKING:
    from jiwer import CharacterOutput, WordOutput


@dataclass(frozen=True, slots=True)
class ErrorCounts:
    """Edits of a Levenshtein alignment, in words or in characters.

    >>> counts = ErrorCounts(hits=8, substitutions=1, deletions=1, insertions=1)
    >>> counts.reference, counts.rate
    (10, 0.3)
    """

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def reference(self) -> int:
        """Length of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Errors for each unit of the reference; 0 for an empty one."""
        return self.errors / self.reference if self.reference else 0.0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One utterance: what was said, what was recognised, and how they differ.

    `pairs` is the alignment: (reference word, recognised word), one of them empty for an insertion
    or a deletion.
    """

    name: str
    reference: str
    hypothesis: str
    words: ErrorCounts
    characters: ErrorCounts
    pairs: tuple[tuple[str, str], ...]


def compare(reference: str, hypothesis: str, name: str = "") -> Comparison:
    """Align two texts that are normalised already.

    Raises ValueError for an empty reference, MissingDependencyError without jiwer.

    >>> compare("the cat sat", "the bat sat on").pairs
    (('the', 'the'), ('cat', 'bat'), ('sat', 'sat'), ('', 'on'))
    """
    try:
        import jiwer
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "error rates need jiwer", "pip install 'blstm-ctc-asr[train]'"
        ) from error
    words = jiwer.process_words(reference, hypothesis)
    characters = jiwer.process_characters(reference, hypothesis)
    return Comparison(
        name, reference, hypothesis, _counts(words), _counts(characters), tuple(_pairs(words))
    )


def total(counts: Iterable[ErrorCounts]) -> ErrorCounts:
    return sum(counts, start=ErrorCounts())


def confidence_interval(
    counts: Sequence[ErrorCounts], level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Lower and upper bound of the error rate, by drawing utterances with replacement.

    Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004.
    """
    if not counts:
        return 0.0, 0.0
    errors = np.array([c.errors for c in counts])
    lengths = np.array([c.reference for c in counts])
    drawn = np.random.default_rng(seed).integers(len(counts), size=(draws, len(counts)))
    rates = errors[drawn].sum(axis=1) / np.maximum(1, lengths[drawn].sum(axis=1))
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _counts(result: WordOutput | CharacterOutput) -> ErrorCounts:
    return ErrorCounts(result.hits, result.substitutions, result.deletions, result.insertions)


def _pairs(result: WordOutput) -> Iterable[tuple[str, str]]:
    reference, hypothesis = result.references[0], result.hypotheses[0]
    for chunk in result.alignments[0]:
        said = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        recognised = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if chunk.type == "delete":
            yield from ((word, "") for word in said)
        elif chunk.type == "insert":
            yield from (("", word) for word in recognised)
        else:
            yield from zip(said, recognised, strict=True)


@dataclass
class WrittenCounts:
    """How often each mark was restored, and how words were written.

    found: right, left out and put in wrongly, for each mark but none, and for words that have
    capitals although no sentence begins with them, as `capitals`. written: words that are written
    as they should be, but for the mark behind them, and all.
    """

    found: dict[str, list[int]] = field(default_factory=dict)
    written: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, reference: Labelled, restored: Sequence[str]) -> None:
        """Compare the words of a text, with their marks, with what was restored of it."""
        given = zip(
            reference.forms, reference.marks, reference.cases, reference.begins, strict=True
        )
        for (form, mark, case, begins), text in zip(given, restored, strict=True):
            word = text.rstrip("".join(MARKS))
            marks = {MARKS[mark], text[len(word) :]}
            for sign in filter(None, marks):
                self._count(sign, sign == MARKS[mark], sign == text[len(word) :])
            if case == UNKNOWN_CASE:
                continue
            self.written[0] += word == form
            self.written[1] += 1
            if not begins:
                self._count("capitals", form != form.lower(), word != word.lower())

    def f1(self, sign: str) -> float:
        """The harmonic mean of precision and recall; 0 where there was nothing to find."""
        right, left_out, wrong = self.found.get(sign, [0, 0, 0])
        return 2 * right / (2 * right + left_out + wrong) if right else 0.0

    def number(self, sign: str) -> int:
        """How often it should have been restored."""
        return sum(self.found.get(sign, [0, 0, 0])[:2])

    @property
    def accuracy(self) -> float:
        """The share of words that are written as they should be."""
        return self.written[0] / self.written[1] if self.written[1] else 0.0

    def _count(self, sign: str, expected: bool, given: bool) -> None:
        counts = self.found.setdefault(sign, [0, 0, 0])
        if expected or given:
            counts[0 if expected and given else 1 if expected else 2] += 1

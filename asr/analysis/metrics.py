"""Error rates: how many words or characters must change to turn what was recognised into what was
said, how sure the figure is, and a report of which words go wrong in which recordings.

Every test set is a figure of its own: rates of different sets are never pooled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import MissingDependencyError

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


def error_report(title: str, comparisons: Sequence[Comparison], most: int = 50) -> str:
    """Plain text: rates, the `most` frequent confusions, then every utterance, the worst first.

    `(said->found)` is a substitution, `(said->*)` a deletion, `(*->found)` an insertion.
    """
    worst_first = sorted(comparisons, key=lambda c: (-c.words.errors, -c.words.rate, c.name))
    return "".join(line + "\n" for line in _lines(title, worst_first, most))


def _lines(title: str, comparisons: Sequence[Comparison], most: int) -> Iterator[str]:
    words = total(c.words for c in comparisons)
    characters = total(c.characters for c in comparisons)
    yield title
    yield (
        f"WER {words.rate:.2%}, CER {characters.rate:.2%}: {words.substitutions} substitutions,"
        f" {words.deletions} deletions, {words.insertions} insertions in {words.reference} words"
    )
    wrong = Counter(pair for c in comparisons for pair in c.pairs if pair[0] != pair[1])
    for heading, chosen in (
        ("Substitutions", (pair for pair in wrong.elements() if all(pair))),
        ("Deletions", (pair for pair in wrong.elements() if not pair[1])),
        ("Insertions", (pair for pair in wrong.elements() if not pair[0])),
    ):
        yield ""
        yield heading
        yield from (
            f"{count:6} {_inline(*pair)}" for pair, count in Counter(chosen).most_common(most)
        )
    yield ""
    yield "Utterances"
    for comparison in comparisons:
        yield f"{comparison.words.errors:3}/{comparison.words.reference:<3} {comparison.name}"
        yield "        " + aligned(comparison.pairs)


def aligned(pairs: Iterable[tuple[str, str]]) -> str:
    """
    >>> aligned([("the", "the"), ("cat", "bat"), ("sat", "")])
    'the (cat->bat) (sat->*)'
    """
    return " ".join(said if said == found else _inline(said, found) for said, found in pairs)


def _inline(said: str, found: str) -> str:
    return f"({said or '*'}->{found or '*'})"

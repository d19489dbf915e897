"""An error report that one can act on: which words go wrong, and in which recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from asr.metrics import Comparison, total


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

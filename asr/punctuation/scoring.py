"""How well case and punctuation were restored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from asr.punctuation.labels import MARKS, UNKNOWN_CASE, Labelled


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

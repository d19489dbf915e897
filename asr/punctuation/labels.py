"""What written text has and spoken words lack: capital letters, commas, full stops, question marks.

Written text is taken apart into the words that a recogniser would give and two labels for each,
its case and the mark behind it; labels and words make written text again. A
sentence begins with a capital whatever the label says, so that case and marks cannot contradict
each other.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from asr.text import normalize as plain
from asr.text.languages import speller

MARKS = ("", ",", ".", "?")  # behind a word
NOTHING, COMMA, STOP, QUESTION = range(len(MARKS))
CASES = ("lower", "capital", "upper")
LOWER, CAPITAL, UPPER = range(len(CASES))
UNKNOWN_CASE = -1  # of a word that was not written as one, such as a number in digits
ENDS = (STOP, QUESTION)
KEYS = 4  # of a word: see `rows_of`

_WORD = re.compile(r"\w+(?:'\w+)*")
_LABELS = {"?": QUESTION, ".": STOP, "!": STOP, "…": STOP}
_PAUSES = re.compile(r"[,;:]|\s-+\s|--")


@dataclass(frozen=True, slots=True)
class Labelled:
    """Words as they are said, how each is written, the mark behind it and its case."""

    words: tuple[str, ...]
    forms: tuple[str, ...]
    marks: tuple[int, ...]
    cases: tuple[int, ...]

    @property
    def begins(self) -> tuple[bool, ...]:
        """Whether a sentence begins with the word."""
        return (True, *(mark in ENDS for mark in self.marks[:-1]))


def take_apart(text: str, language: str = "en") -> Labelled | None:
    """The words of written text, with labels; None if it does not show how it should be written.

    That is text without a capital at its beginning or a mark at its end, text in capitals, and
    what normalises to other words than those that stand there.

    >>> taken = take_apart("Well, did Anna leave NASA in 1998? She did!")
    >>> [word + MARKS[mark] for word, mark in zip(taken.words, taken.marks)]
    ['well,', 'did', 'anna', 'leave', 'nasa', 'in', 'nineteen', 'ninety', 'eight?', 'she', 'did.']
    >>> taken.cases
    (1, 0, 1, 0, 2, 0, -1, -1, -1, 1, 0)
    >>> take_apart("no capital.") is take_apart("No mark") is None
    True
    """
    text = plain.unify(text)
    spelled = speller(language)(text)
    found = list(_WORD.finditer(spelled))
    words = plain.normalize(spelled).split()
    forms = [match[0] for match in found]
    if (
        not words
        or len(words) != len(forms)
        or forms[0] == forms[0].lower() != forms[0].upper()
        or (len(forms) > 1 and spelled == spelled.upper() != spelled.lower())
        or any(
            form.lower() != word and plain.normalize(form) != word
            for form, word in zip(forms, words, strict=True)
        )
    ):
        return None
    ends = [*(match.start() for match in found[1:]), len(spelled)]
    between = [spelled[match.end() : end] for match, end in zip(found, ends, strict=True)]
    marks = [_mark(marked, after) for marked, after in zip(between, [*forms[1:], ""], strict=True)]
    if marks[-1] not in ENDS:
        return None
    written = set(_WORD.findall(text)) if spelled != text else set(forms)
    cases = [_case(form) if form in written else UNKNOWN_CASE for form in forms]
    return Labelled(tuple(words), tuple(forms), tuple(marks), tuple(cases))


def put_together(
    words: Sequence[str],
    marks: Sequence[int],
    cases: Sequence[int],
    forms: Mapping[str, str] | None = None,
    *,
    begins: bool = True,
) -> list[str]:
    """Each word as it is written, with the mark behind it.

    `forms`: of words with capitals that are not just the first letter. `begins`: the first word
    begins a sentence.

    >>> put_together(["yes", "mister", "mcduff"], [COMMA, 0, STOP], [0, 1, 1],
    ...              {"mcduff": "McDuff"})
    ['Yes,', 'Mister', 'McDuff.']
    """
    written = []
    for word, mark, case in zip(words, marks, cases, strict=True):
        if case == UPPER:
            word = word.upper()
        elif case == CAPITAL:
            word = (forms or {}).get(word) or capitalized(word)
        elif begins:
            word = capitalized(word)
        written.append(word + MARKS[mark])
        begins = mark in ENDS
    return written


def capitalized(word: str) -> str:
    """
    >>> capitalized("o'clock")
    "O'clock"
    """
    return word[:1].upper() + word[1:]


def rows_of(word: str, size: int) -> list[int]:
    """Which `KEYS` rows of a table of `size` make the vector of a word, by hashing.

    Two stand for the whole word, so that hardly two words share both (Serra & Karatzoglou 2017),
    one for its beginning and one for its end, which tell something of words never seen.
    """
    keys = (f"a{word}", f"b{word}", f"<{word[:3]}", f"{word[-3:]}>")
    return [zlib.crc32(key.encode()) % size for key in keys]


def _mark(between: str, after: str) -> int:
    """What stands between two words, as one of MARKS; ends before a small letter are none."""
    for mark, label in _LABELS.items():
        if mark in between:
            return COMMA if after and after[0].islower() else label
    return COMMA if _PAUSES.search(between) else NOTHING


def _case(form: str) -> int:
    if form == form.lower():
        return LOWER
    return UPPER if len(form) > 1 and form == form.upper() else CAPITAL


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

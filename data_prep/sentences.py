"""Paragraphs of prose to sentences, one a line, as language models are trained on them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MIN_WORDS, MAX_WORDS = 4, 60  # of a line: shorter ones are titles, longer ones lists
MIN_LETTERS = 0.75  # share of letters and spaces: what has less is a table or a formula

_STOPS = ".!?।؟።"
_CLOSING = "\"')”’»"
_BRACKETS = re.compile(r" ?\([^()]*\)")
_SPACES = re.compile(r"\s+")
_SPACE_BEFORE_MARK = re.compile(r" ([,.;:!?])")
_MARK_BEFORE_MARK = re.compile(r"[,;:](?=[,.;:])")  # what taking out brackets leaves
# Where a sentence may end, and the first letter of the next.
_END = re.compile(rf"(?<=[{_STOPS}])[{_CLOSING}]*\s+(?=[\"'(“‘«„]?([^\W\d_]))")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(.\"])(?:[A-ZÀ-ÖØ-ÞΑ-ΩА-Я]|Mr|Mrs|Ms|Dr|St|Prof|Rev|Gen|Col|Lt|Capt|Sgt|Sen|Rep|Gov"
    r"|Jr|Sr|Mt|Ft|Nos?|vs|cf|ca|c|e\.g|i\.e|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
    r"|Co|Corp|Inc|Ltd|approx|Vol|pp?|eds?|lit|[Ff]igs?)\.$"
)
_LONGEST_ABBREVIATION = 12  # characters, with what stands before it
_NOT_PROSE = re.compile(r"[={}|()\[\]<>~_\\^@*/#]|https?:|www\.|&\w+;|\.\.")


def sentences(paragraph: str) -> Iterator[str]:
    """The sentences of a paragraph, without what stands in round brackets.

    >>> list(sentences("Dr. Smith (born 1940) met J. R. Ewing in the U.S. Senate. “Why?” He left."))
    ['Dr. Smith met J. R. Ewing in the U.S. Senate.', '“Why?”', 'He left.']
    """
    paragraph = _SPACES.sub(" ", paragraph)
    for _ in range(2):  # brackets in brackets
        paragraph = _BRACKETS.sub("", paragraph)
    paragraph = _SPACE_BEFORE_MARK.sub(r"\1", _SPACES.sub(" ", paragraph).strip())
    paragraph = _MARK_BEFORE_MARK.sub("", paragraph)
    start = 0
    for end in _END.finditer(paragraph):
        before = paragraph[max(start, end.start() - _LONGEST_ABBREVIATION) : end.start()]
        if not end[1].islower() and not _ABBREVIATION.search(before):
            yield paragraph[start : end.end()].strip()
            start = end.end()
    if start < len(paragraph):
        yield paragraph[start:]


def is_running(sentence: str) -> bool:
    """Whether this is a whole sentence of plain words, and not a title, a table or markup.

    >>> is_running("The river rises in the Alps."), is_running("Rivers of the Alps by length")
    (True, False)
    """
    if not MIN_WORDS <= len(sentence.split()) <= MAX_WORDS or _NOT_PROSE.search(sentence):
        return False
    if sentence[0].islower() or sentence.rstrip(_CLOSING)[-1:] not in tuple(_STOPS):
        return False
    # Marks count as letters: the vowels of Hindi are.
    n_letters = sum(unicodedata.category(character)[0] in "LMZ" for character in sentence)
    return n_letters >= MIN_LETTERS * len(sentence)

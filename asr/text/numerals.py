"""Numbers as digits: inverse text normalisation of English.

`twenty one` becomes 21, `nineteen eighty four` 1984, `three point five percent` 3.5%, `five
dollars` $5, `five five five one two` 55512, `twenty first` 21st. A number below ten that stands
alone stays a word, as style guides ask for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from asr.text.english_numbers import cardinal, ordinal
from asr.types import Segment, Word

_UNITS = [cardinal(n) for n in range(10)]
SMALL = {cardinal(n): n for n in (*range(20), *range(20, 100, 10))}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_ORDINALS = {ordinal(n): n for n in SMALL.values()}
_MARK = re.compile(r"[^\w'%]+$")


def numerals(segment: Segment) -> Segment:
    """A segment with its numbers as digits; a number is one word with the times of its words."""
    words = tuple(_words(segment.words))
    return replace(segment, words=words, text=" ".join(word.word for word in words))


def _words(words: Sequence[Word]) -> Iterator[Word]:
    plain = [_MARK.sub("", word.word).lower() for word in words]
    at = 0
    while at < len(words):
        end = at + 1  # a mark behind a word ends a number
        while end < len(words) and plain[end - 1] == words[end - 1].word.lower():
            end += 1
        length, text = _number(plain[at:end])
        if not length:
            yield words[at]
            at += 1
            continue
        part = words[at : at + length]
        mark = _MARK.search(part[-1].word)
        confidence = min(word.confidence for word in part)
        yield Word(text + (mark[0] if mark else ""), part[0].start, part[-1].end, confidence)
        at += length


def _number(words: Sequence[str]) -> tuple[int, str]:
    """How many words a number at the beginning has, and its digits; 0 if none is there.

    >>> _number("three point one four percent of".split())
    (5, '3.14%')
    >>> _number("nineteen eighty four".split()), _number("twenty first".split())
    ((3, '1984'), (2, '21st'))
    >>> _number("two cats".split()), _number("two dollars".split())
    ((0, ''), (2, '$2'))
    """
    digits = 0
    while digits < len(words) and words[digits] in _UNITS:
        digits += 1
    if digits >= 3:  # a telephone number, a code
        return digits, "".join(str(SMALL[word]) for word in words[:digits])
    length, value, text = _year(words)
    if not length:
        length, value = _cardinal(words)
        text = f"{value:,}" if value >= 10_000 else str(value)
    ordinal = _ordinal(words, length, value)
    if ordinal[0]:
        return ordinal
    if not length:
        return 0, ""
    following = list(words[length : length + 1])
    if following == ["point"] and words[length + 1 : length + 2] and words[length + 1] in _UNITS:
        decimals = length + 1
        while decimals < len(words) and words[decimals] in _UNITS:
            decimals += 1
        text += "." + "".join(str(SMALL[word]) for word in words[length + 1 : decimals])
        length, value = decimals, 10
        following = list(words[length : length + 1])
    if following == ["percent"]:
        return length + 1, f"{text}%"
    if following and following[0] in ("dollars", "euros", "pounds"):
        return length + 1, {"d": "$", "e": "€", "p": "£"}[following[0][0]] + text
    return (length, text) if value >= 10 else (0, "")


def _cardinal(words: Sequence[str]) -> tuple[int, int]:
    """The longest cardinal at the beginning: its words and its value."""
    total = group = at = length = 0
    last = 10**12  # what came before must be greater: `twenty thirty` are two numbers
    while at < len(words):
        word = words[at]
        if word in SMALL and (
            SMALL[word] < last and (last >= 100 or last >= 20 > 10 > SMALL[word])
        ):
            if word == "zero" and at:
                break
            group, last = group + SMALL[word], SMALL[word]
        elif word == "hundred" and 0 < group < 100 and last < 100:
            group, last = group * 100, 100
        elif word in _SCALES and group and (not total or total >= _SCALES[word] * 1000):
            total, group, last = total + group * _SCALES[word], 0, 10**12
        elif word == "and" and at and words[at - 1] in ("hundred", *_SCALES):
            at += 1
            continue
        else:
            break
        at += 1
        length = at
    return length, total + group


def _year(words: Sequence[str]) -> tuple[int, int, str]:
    """`nineteen eighty four`, `nineteen oh five`: two numbers of two digits."""
    if not words or words[0] not in SMALL or not 10 <= SMALL[words[0]] <= 20:
        return 0, 0, ""
    first = SMALL[words[0]]
    if list(words[1:2]) == ["oh"] and words[2:3] and words[2] in _UNITS[1:]:
        value = 100 * first + SMALL[words[2]]
        return 3, value, str(value)
    length, second = _cardinal(words[1:3])
    if 10 <= second <= 99:
        return 1 + length, 100 * first + second, str(100 * first + second)
    return 0, 0, ""


def _ordinal(words: Sequence[str], length: int, value: int) -> tuple[int, str]:
    """`twenty first`; an ordinal below ten that stands alone stays a word."""
    if length < len(words) and words[length] in _ORDINALS:
        last = _ORDINALS[words[length]]
        if (length and value % 10 == 0 and last < 10 and value) or (not length and last >= 10):
            value += last
            teen = value % 100 // 10 == 1
            ending = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")
            return length + 1, f"{value}{ending}"
    return 0, ""

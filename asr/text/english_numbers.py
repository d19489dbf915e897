"""Numbers as English words, without "and", as Americans say them."""

from __future__ import annotations

import re

_ONES = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen""".split()
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {
    10**15: "quadrillion",
    10**12: "trillion",
    10**9: "billion",
    10**6: "million",
    1000: "thousand",
    100: "hundred",
}
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(number: int) -> str:
    """
    >>> cardinal(1_200_045), cardinal(-7)
    ('one million two hundred thousand forty five', 'minus seven')
    """
    if number < 0:
        return "minus " + cardinal(-number)
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (" " + _ONES[ones] if ones else "")
    scale = next(scale for scale in _SCALES if number >= scale)
    count, rest = divmod(number, scale)
    return f"{cardinal(count)} {_SCALES[scale]}" + (" " + cardinal(rest) if rest else "")


def ordinal(number: int) -> str:
    """
    >>> ordinal(3), ordinal(20), ordinal(112)
    ('third', 'twentieth', 'one hundred twelfth')
    """
    *head, last = cardinal(number).split()
    return " ".join([*head, _ORDINALS.get(last) or re.sub("y$", "ie", last) + "th"])


def year(number: int) -> str:
    """
    >>> year(1776), year(1905), year(2008)
    ('seventeen seventy six', 'nineteen oh five', 'two thousand eight')
    """
    century, rest = divmod(number, 100)
    if not (1100 <= number < 2000 or 2010 <= number < 2100):
        return cardinal(number)
    if rest == 0:
        return cardinal(century) + " hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def digits(number: str) -> str:
    """
    >>> digits("007")
    'zero zero seven'
    """
    return " ".join(_ONES[int(digit)] for digit in number if digit.isdecimal())

"""English as it is said: numbers, dates, times, money and abbreviations become words.

American readings: "and" is left out of numbers, month comes before day in 12/25/2020. What can be
read in two ways gets the more frequent one; a rule is worth a line here only if it is common.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import date

from asr.text import normalize as plain

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
_MONTHS = """january february march april may june july august september october november
    december""".split()

# One name for one unit, and for several; of money also of its hundredth part.
_MONEY = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
}
_UNITS = {
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "kg": ("kilogram", "kilograms"),
    "mg": ("milligram", "milligrams"),
    "ml": ("milliliter", "milliliters"),
    "lbs": ("pound", "pounds"),
    "lb": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "ft": ("foot", "feet"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "Hz": ("hertz", "hertz"),
    "kW": ("kilowatt", "kilowatts"),
    "KB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"),
    "°C": ("degree celsius", "degrees celsius"),
    "°F": ("degree fahrenheit", "degrees fahrenheit"),
    "°": ("degree", "degrees"),
    "¢": ("cent", "cents"),
    "%": ("percent", "percent"),
}
# These need no full stop; those of the second table are words, or parts of words, without one.
_TITLES = {"Mr": "mister", "Mrs": "missus", "Dr": "doctor", "Prof": "professor"}
_ABBREVIATIONS = {
    "Capt": "captain",
    "Col": "colonel",
    "Gen": "general",
    "Gov": "governor",
    "Hon": "honorable",
    "Lt": "lieutenant",
    "Maj": "major",
    "Rep": "representative",
    "Rev": "reverend",
    "Sen": "senator",
    "Sgt": "sergeant",
    "Jr": "junior",
    "Sr": "senior",
    "Ave": "avenue",
    "Blvd": "boulevard",
    "Rd": "road",
    "Mt": "mount",
    "Ft": "fort",
    "Co": "company",
    "Corp": "corporation",
    "Dept": "department",
    "Inc": "incorporated",
    "Ltd": "limited",
    "approx": "approximately",
    "etc": "et cetera",
    "vs": "versus",
    "e.g": "for example",
    "i.e": "that is",
}


def normalize(text: str) -> str:
    """What `asr.text.normalize.normalize` gives, after everything that is said is spelled out.

    >>> normalize("Dr. Smith paid $5.30 on July 4th, 1976!")
    'doctor smith paid five dollars and thirty cents on july fourth nineteen seventy six'
    """
    return plain.normalize(spell_out(text))


def spell_out(text: str) -> str:
    """Replace numbers, dates, times, money, units and abbreviations by words; keep all else.

    >>> spell_out("Chapter 21: the 1980s, 3.5% of it, 3:05 p.m.")
    'Chapter twenty one: the nineteen eighties, three point five percent of it, three oh five p m'
    """
    for pattern, reading in _RULES:
        text = pattern.sub(reading, text)
    return text


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


def _month(abbreviated: str) -> int:
    """
    >>> _month("Feb."), _month("March")
    (2, 3)
    """
    return next(i for i, m in enumerate(_MONTHS, 1) if m.startswith(abbreviated[:3].lower()))


def _number(number: str) -> str:
    """Of a plain number as written: `1,200`, `3.14`, `.5`; codes and long ones digit by digit."""
    whole, _, fraction = number.replace(",", "").partition(".")
    if len(whole) > 15 or (len(whole) > 1 and whole.startswith("0")):
        said = digits(whole)
    else:
        said = cardinal(int(whole)) if whole else ""
    return f"{said} point {digits(fraction)}".strip() if fraction else said


def _date(written: str, month: int, day: int, year_: int | None, form: str = "{} {}") -> str:
    """The date in words; as it was `written` if there is no such day."""
    try:
        date(year_ or 2000, month, day)
    except ValueError:
        return written
    said = form.format(_MONTHS[month - 1], ordinal(day))
    return said if year_ is None else f"{said} {year(year_)}"


def _named_date(match: re.Match[str], form: str = "{} {}") -> str:
    month = _month(match["month"])
    year_ = int(match["year"]) if match["year"] else None
    return _date(match[0], month, int(match["day"]), year_, form)


def _day_first_date(match: re.Match[str]) -> str:
    return _named_date(match, form="the {1} of {0}")


def _iso_date(match: re.Match[str]) -> str:
    return _date(match[0], int(match[2]), int(match[3]), int(match[1]))


def _slashed_date(match: re.Match[str]) -> str:
    first, second, year_ = int(match[1]), int(match[2]), int(match[3])
    if year_ < 100:
        year_ += 2000 if year_ < 50 else 1900
    month, day = (second, first) if first > 12 else (first, second)
    return _date(match[0], month, day, year_)


def _time(match: re.Match[str]) -> str:
    hour, minute, half = int(match["hour"]), int(match["minute"] or 0), match["half"]
    if hour > 24 or minute > 59:
        return match[0]
    said = cardinal(hour)
    if minute:
        said += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif match["minute"] and not half:
        said += " o'clock" if hour <= 12 else " hundred"
    return f"{said} {half.lower()} m" if half else said


def _money(match: re.Match[str]) -> str:
    one, many, small_one, small_many = _MONEY[match["sign"]]
    whole, fraction, scale = match["whole"] or "0", match["fraction"] or "", match["scale"]
    if scale:
        return f"{_number(whole + fraction)} {scale} {many}"
    cents = int(fraction[1:3].ljust(2, "0"))
    parts = []
    if whole != "0" or not cents:
        parts.append(f"{_number(whole)} {one if whole == '1' else many}")
    if cents:
        parts.append(f"{cardinal(cents)} {small_one if cents == 1 else small_many}")
    return " and ".join(parts)


def _decade(match: re.Match[str]) -> str:
    said = year(int(match[1])) if len(match[1]) == 4 else cardinal(int(match[1]))
    return re.sub("y$", "ie", said) + "s"


def _fraction(match: re.Match[str]) -> str:
    whole, over, under = match[1], int(match[2]), int(match[3])
    if not 2 <= under <= 100 or over >= under:
        return f"{cardinal(over)} {cardinal(under)}"  # 24/7
    names = {2: ("half", "halves"), 4: ("quarter", "quarters")}
    one, many = names.get(under, (ordinal(under), ordinal(under) + "s"))
    said = f"{cardinal(over)} {one if over == 1 else many}"
    return f"{cardinal(int(whole))} and {said}" if whole else said


def _unit(match: re.Match[str]) -> str:
    one, many = _UNITS[match[2]]
    return f"{_number(match[1])} {one if match[1] == '1' else many}"


def _year_or_number(match: re.Match[str]) -> str:
    number = match[0]
    return year(int(number)) if len(number) == 4 and number[0] in "12" else _number(number)


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_MONTH_ABBREVIATIONS = _either(month[:3].title() for month in _MONTHS)
_MONTH = rf"(?P<month>{_either(m.title() for m in _MONTHS)}|(?:{_MONTH_ABBREVIATIONS})\.)"
_YEAR = r"(?P<year>[12]\d{3})"
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+"
_HALF = r"(?P<half>[apAP])\.?\s?[mM]\b\.?"

Reading = str | Callable[[re.Match[str]], str]
_RULES: tuple[tuple[re.Pattern[str], Reading], ...] = tuple(
    (re.compile(pattern), reading)
    for pattern, reading in (
        (r"[¹²³¼-¾⁰-₉⅐-⅞①-⑳]", lambda m: " " + unicodedata.normalize("NFKC", m[0])),
        # Dates and times first: they are made of numbers that later rules would read alone.
        (r"\b(\d{4})-(\d\d)-(\d\d)\b", _iso_date),
        (r"\b(\d{1,2})/(\d{1,2})/(\d{4}|\d\d)\b", _slashed_date),
        (rf"\b{_MONTH} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,? {_YEAR})?\b(?!:)", _named_date),
        (
            rf"\b(?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? {_YEAR}\b)?",
            _day_first_date,
        ),
        (rf"\b(?P<hour>\d{{1,2}}):(?P<minute>\d\d)(?::\d\d)?(?:\s*{_HALF})?(?![\d:])", _time),
        (rf"\b(?P<hour>\d{{1,2}})(?P<minute>)\s*{_HALF}", _time),
        # Numbers with something before or behind them.
        (
            r"(?P<sign>[$£€¥])\s?(?P<whole>\d[\d,]*)?(?P<fraction>\.\d+)?"
            r"(?:\s(?P<scale>thousand|million|billion|trillion)\b)?(?<=\w)",
            _money,
        ),
        (r"\b(?:\+?1[- ])?(?:\(?\d{3}\)?[- ])?\d{3}-\d{4}\b", lambda m: digits(m[0])),
        (r"\bNo\. ?(?=\d)|#(?=\d)", "number "),
        (r"(?<=\d)(?:\s?[-–]\s?)(?=[$£€]?\d)", " to "),
        (rf"({_NUMBER})\s?({_either(_UNITS)})(?!\w)", _unit),
        (r"(?<![\w.])[-−](?=\.?\d)", "minus "),
        (r"\b(\d{1,15})(?:st|nd|rd|th)\b", lambda m: ordinal(int(m[1]))),
        (r"['’]?\b((?:\d\d)?\d0)['’]?s\b", _decade),
        (r"\b(?:(\d{1,15}) )?(\d{1,3})[/⁄](\d{1,3})\b", _fraction),
        (r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|(?<!\w)\.\d+", lambda m: _number(m[0])),
        # Abbreviations.
        (rf"\b{_MONTH}(?= [12]\d{{3}}\b)", lambda m: _MONTHS[_month(m["month"]) - 1]),
        (rf"\b({_either(_TITLES)})\b\.?(?= )", lambda m: _TITLES[m[1]]),
        (r"\bSt\. (?=[A-Z])", "Saint "),
        (r"\bSt\.", "street"),
        (rf"\b({_either(_ABBREVIATIONS)})\.", lambda m: _ABBREVIATIONS[m[1]]),
        # What is left of numbers, each a word of its own even inside B2B, and of signs.
        (r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])", " "),
        (r"\d+", _year_or_number),
        (r"\s?\+\s?(?=\w)", " plus "),
        (r"(?<=\w)\s?=\s?", " equals "),
        (r"(?<=\w)\s?@\s?(?=\w)", " at "),
    )
)

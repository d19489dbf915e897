"""English as it is said: numbers, dates, times, money and abbreviations become words.

American readings: "and" is left out of numbers, month comes before day in 12/25/2020. What can be
read in two ways gets the more frequent one; a rule is worth a line here only if it is common.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import date
from functools import cache

from asr.text import normalize as plain
from asr.text import roman
from asr.text.english_numbers import cardinal, digits, ordinal, year
from asr.text.english_terms import (
    ABBREVIATIONS,
    CURRENCY_CODES,
    DENOMINATORS,
    LENGTHS,
    MONEY,
    MONEY_SCALES,
    MONTHS,
    REFERENCES,
    SIGNS_IN_ADDRESSES,
    TITLES,
    UNITS,
)


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
    if not (
        _SIGNS.search(text) or _CAPITALIZED.search(text) or any(part in text for part in _PARTS)
    ):
        return text
    if not text.isascii():
        text = _UNUSUAL.sub(_usual, text)
    for needs_digits, rules in _rules():
        if not needs_digits or _DIGIT.search(text):
            for pattern, reading in rules:
                text = pattern.sub(reading, text)
    return text


@cache
def _rules() -> tuple[tuple[bool, tuple[tuple[re.Pattern[str], Reading], ...]], ...]:
    """Whether they need digits, and the rules: compiled when they are first needed."""
    return tuple(
        (needs_digits, tuple((re.compile(pattern), reading) for pattern, reading in rules))
        for needs_digits, rules in ((False, _ADDRESSES), (True, _NUMBERS), (False, _WORDS))
    )


def _usual(match: re.Match[str]) -> str:
    """Digits of other scripts and widths as 0 to 9; what only contains some, such as ½ or ①, as its
    parts, with a space before."""
    character = match[0]
    if (digit := unicodedata.digit(character, None)) is not None:
        return str(digit) if character.isdecimal() else f" {digit}"
    if "！" <= character <= "～" or character in "￥￡￠":
        return unicodedata.normalize("NFKC", character)
    plain_ = unicodedata.normalize("NFKC", character)
    if any(c.isdecimal() for c in plain_):
        return " " + plain_
    number = unicodedata.numeric(character, None)
    if number is None or unicodedata.category(character) != "No" or number != int(number):
        return character
    return f" {int(number)} "


def _month(abbreviated: str) -> int:
    """
    >>> _month("Feb."), _month("March")
    (2, 3)
    """
    return next(i for i, m in enumerate(MONTHS, 1) if m.startswith(abbreviated[:3].lower()))


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
    said = form.format(MONTHS[month - 1], ordinal(day))
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


def _dotted_date(match: re.Match[str]) -> str:
    """`01.02.2003` is European: the day comes first."""
    return _date(match[0], int(match[2]), int(match[1]), int(match[3]), "the {1} of {0}")


def _time(match: re.Match[str]) -> str:
    hour, minute, half = int(match["hour"]), int(match["minute"] or 0), match["half"]
    second = int(match.groupdict()["second"] or 0)
    if hour > 24 or minute > 59 or second > 59:
        return match[0]
    said = cardinal(hour)
    if minute:
        said += f" {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    elif match["minute"] and not half:
        said += " o'clock" if hour <= 12 else " hundred"
    if second:
        said += f" and {cardinal(second)} second{'' if second == 1 else 's'}"
    return f"{said} {half.lower()} m" if half else said


def _money(match: re.Match[str]) -> str:
    sign = match["sign"]
    one, many, small_one, small_many = MONEY[CURRENCY_CODES.get(sign, sign)]
    whole, fraction = match["whole"] or "0", match["fraction"] or ""
    scale = MONEY_SCALES.get((match.groupdict().get("scale") or "").strip())
    if scale:
        return f"{_number(whole + fraction)} {scale} {many}"
    if len(fraction) > 3:
        return f"{_number(whole + fraction)} {many}"
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
    if under not in DENOMINATORS or over >= under:
        parts = f"{_year_or_cardinal(match[2])} {_year_or_cardinal(match[3])}"  # 24/7, 9/11
        return f"{_number(whole)} {parts}" if whole else parts
    names = {2: ("half", "halves"), 4: ("quarter", "quarters")}
    one, many = names.get(under, (ordinal(under), ordinal(under) + "s"))
    said = f"{cardinal(over)} {one if over == 1 else many}"
    return f"{cardinal(int(whole))} and {said}" if whole else said


def _year_or_cardinal(number: str) -> str:
    return year(int(number)) if len(number) == 4 else _number(number)


def _unit(match: re.Match[str]) -> str:
    if len(match[2]) == 1 and match[2].islower() and re.fullmatch(r"[12]\d{3} .", match[0]):
        return match[0]  # 1896 h g wells
    one, many = UNITS[match[2]]
    return f"{_number(match[1])} {one if match[1] == '1' else many}"


def _grouped(match: re.Match[str]) -> str:
    """Numbers of cards, accounts and books digit by digit; `5-10-15` as three numbers."""
    groups = re.findall(r"\d+", match[0])
    return digits(match[0]) if sum(map(len, groups)) > 6 else " ".join(map(_number, groups))


def _ratio(match: re.Match[str]) -> str:
    """`odds of 3:1`, but not `John 3:1`."""
    before, space, number = match.groups()
    sign = " " if before[:1].isupper() else " to "
    return f"{before}{space}{cardinal(int(number))}{sign}one"


def _unit_of_fraction(match: re.Match[str]) -> str:
    """`1/2 mile` is one mile at most, `3 1/2 miles` are several."""
    return f"{match[1]} {UNITS[match[2]][' ' in match[1]]}"


def _area(match: re.Match[str]) -> str:
    power = "square" if match[3] in "²2" else "cubic"
    one, many = UNITS[match[2]]
    return f"{_number(match[1])} {power} {one if match[1] == '1' else many}"


def _feet(match: re.Match[str]) -> str:
    return f"{cardinal(int(match[1]))} foot {cardinal(int(match[2]))}"


def _feet_and_inches(match: re.Match[str]) -> str:
    feet, inches = int(match[1]), int(match[2])
    return (
        f"{cardinal(feet)} {'foot' if feet == 1 else 'feet'}"
        f" {cardinal(inches)} {'inch' if inches == 1 else 'inches'}"
    )


def _inches(match: re.Match[str]) -> str:
    """A double quote behind a number is inches, unless one was opened before."""
    before = match.string[: match.start()]
    opened = {
        "”": before.count("“") > before.count("”"),
        '"': len(re.findall(r'(?<!\d)"', before)) % 2 == 1,
    }
    if opened.get(match[2]):
        return match[0]
    if "/" in match[1] or "⁄" in match[1]:
        return f"{match[1]} {'inches' if ' ' in match[1] else 'inch'}"
    return f"{_number(match[1])} {'inch' if match[1] == '1' else 'inches'}"


def _address(match: re.Match[str]) -> str:
    """A web or e-mail address as it is dictated."""
    said = match[0]
    end = ""
    while said and said[-1] in ".,;:!?)'\"":
        said, end = said[:-1], said[-1] + end
    said = re.sub(r"^[a-zA-Z]+://", "", said)
    said = re.sub(r"\bwww\b", "w w w", said).rstrip("/")
    for sign, name in SIGNS_IN_ADDRESSES.items():
        said = said.replace(sign, f" {name} ")
    return " ".join(said.split()) + end


def _counted(match: re.Match[str]) -> str:
    """`Chapter IV`, `Part I`."""
    number = roman.value(match[2])
    return f"{match[1]} {cardinal(number)}" if number else match[0]


def _ruler_or_sequel(match: re.Match[str]) -> str:
    """`Henry VIII` is the eighth, `Rocky IV` is four."""
    name, number = match[1], roman.value(match[2])
    if not number:
        return match[0]
    is_ruler = name in _RULERS
    return f"{name} the {ordinal(number)}" if is_ruler else f"{name} {cardinal(number)}"


def _long_roman(match: re.Match[str]) -> str:
    number = roman.value(match[0])
    return year(number) if 1000 <= number < 2100 else match[0]


def _version(match: re.Match[str]) -> str:
    """`3.5.1`, `192.168.0.1`."""
    return " point ".join(_number(part) for part in match[0].split("."))


def _year_or_number(match: re.Match[str]) -> str:
    number = match[0]
    return year(int(number)) if len(number) == 4 and number[0] in "12" else _number(number)


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_RULERS = frozenset(roman.RULERS)
_MONTH_ABBREVIATIONS = _either(month[:3].title() for month in MONTHS)
_MONTH = rf"(?P<month>{_either(m.title() for m in MONTHS)}|(?:{_MONTH_ABBREVIATIONS})\.)"
_YEAR = r"(?P<year>[12]\d{3})"
_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?|\.\d+"
_APART = r"(?<![^\W\d_])(?<!\d\.)"  # no part of B2B
_HALF = r"(?P<half>[apAP])\.?\s?[mM]\b\.?"
_SIGN = _either(MONEY)
_AMOUNT = r"(?P<whole>\d[\d,]*)?(?P<fraction>\.\d+)?"
_SCALE = (
    rf"(?P<scale>\s(?:thousand|million|billion|trillion|bn|mn|tn)|(?:{_either(MONEY_SCALES)}))?"
)
_TOP_DOMAINS = "com|org|net|edu|gov|io|info|co\\.uk"
_INCH, _FOOT = "(?:\"|”|″|''|’’)", "['’′]"
# A numeral alone may be a letter or the pronoun.
_COUNTED = _either(roman.COUNTED)
_ENDS = r"(?=\s*(?:[,.;:!?)\-–—]|$|(?:of|and|to|or|in|is|was)\b))"

Reading = str | Callable[[re.Match[str]], str]
_WITH_FRACTION = r"(?:\d{1,3} )?\d{1,2}[/⁄]\d{1,2}"
Rules = tuple[tuple[str, Reading], ...]
_ADDRESSES: Rules = (
        (r"[\w.+-]*\w@\w[\w-]*(?:\.\w[\w-]*)+", _address),
        (rf"\b(?:[a-zA-Z]+://|www\.)\S+|\b[\w-]+(?:\.[\w-]+)*\.(?:{_TOP_DOMAINS})\b(?:/\S*)?",
         _address),
        (r"[™®©℠]", " "),
)  # fmt: skip
# In this order: dates and times are made of numbers that later rules would read alone.
_NUMBERS: Rules = (
        (r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}\b)", ""),
        (r"\b(\d{4})[-/](\d\d)[-/](\d\d)\b", _iso_date),
        (r"\b(\d{1,2})/(\d{1,2})/(\d{4}|\d\d)\b", _slashed_date),
        (r"\b(\d{1,2})\.(\d{1,2})\.(\d{4})\b", _dotted_date),
        (
            rf"\b({_MONTH_ABBREVIATIONS})(?= \d{{1,2}}(?:st|nd|rd|th)?,? [12]\d{{3}}\b)"
            rf"|(?:(?<=\d )|(?<=\d[a-z]{{2}} ))({_MONTH_ABBREVIATIONS})(?= [12]\d{{3}}\b)",
            lambda m: MONTHS[_month(m[0]) - 1].title(),
        ),
        (rf"\b{_MONTH} (?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,? {_YEAR})?\b(?!:)", _named_date),
        (
            rf"\b(?:the )?(?P<day>\d{{1,2}})(?:st|nd|rd|th)? (?:of )?{_MONTH}(?:,? {_YEAR}\b)?",
            _day_first_date,
        ),
        (r"(?<=\d)\s?[-–]\s?(?=\d{1,2}(?:[:.]\d\d)?\s?[apAP]\.?[mM]\b|\d{1,2}:\d\d)", " to "),
        (r"\b(\d{1,2})\.(\d\d)(?=\s?[apAP]\.?[mM]\b)", r"\1:\2"),
        (r"(?:(?<=\d[apAP][mM])|(?<=[apAP]\.[mM]\.))\s?[-–—]\s?(?=\d)", " to "),
        (
            r"\b(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?"
            rf"(?:\s*{_HALF}|h\b)?(?![\d:])",
            _time,
        ),
        (rf"\b(?P<hour>\d{{1,2}})(?P<minute>)(?P<second>)\s*{_HALF}", _time),
        (r"(\w*)( ?)\b(\d{1,3}):1\b", _ratio),
        # Numbers with something before or behind them.
        (
            rf"(?P<sign>{_SIGN})\s?({_NUMBER})\s?[-–—]\s?(?P=sign)?\s?(?={_NUMBER})",
            r"\2 to \g<sign>",
        ),
        (r"(?<=\d)\s?(?:−|[-–](?=\s?\d+\s?=))\s?(?=\d)", " minus "),
        (r"\b50[-–]50\b", "50 50"),
        (r"(?<=\ds)\s?[-–]\s?(?=\d)", " to "),
        (rf"(?<![\w.%°)])[-−](?=(?:{_SIGN})?\.?\d)", "minus "),
        (rf"(?<![A-Za-z])(?P<sign>{_SIGN})\s?{_AMOUNT}(?<=\d){_SCALE}(?![A-Za-z\d])", _money),
        (rf"(?<![A-Za-z])(?P<sign>{_SIGN})\s?{_AMOUNT}(?<=\d)", _money),
        (rf"(?<=[A-Za-z])(?P<sign>[$£€¥]){_AMOUNT}(?<=\d)", lambda m: " " + _money(m)),
        (rf"\b(?P<sign>{_either(CURRENCY_CODES)})\s?{_AMOUNT}(?<=\d){_SCALE}(?!\w)", _money),
        (rf"(?<![\w.]){_AMOUNT}(?<=\d){_SCALE}\s?(?P<sign>{_either(CURRENCY_CODES)})\b", _money),
        (rf"(?<![\w.]){_AMOUNT}(?<=\d)\s?(?P<sign>[$£€¥₩₹₽₺₪₫₿])(?![\w])", _money),
        (r"\b\d+(?:-\d+){2,}\b|\b\d{4}(?: \d{4}){2,3}\b", _grouped),
        (r"(?<![\w+])0\d{2,4}(?: \d{3,4}){2}\b", lambda m: digits(m[0])),
        (
            r"\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,5}(?!\d)",
            lambda m: f"plus {digits(m[0])}" if sum(map(str.isdecimal, m[0])) > 7 else m[0],
        ),
        (
            r"(?<!\w)(?:1[-. ])?(?:\(\d{3}\)[-. ]?|\d{3}[-. ])\d{3}[-.]\d{4}\b",
            lambda m: digits(m[0]),
        ),
        (r"\b\d{3}-\d{4}\b|(?<![\w.,])\d{10,11}(?![\d,.])", lambda m: digits(m[0])),
        (r"(?<=[Cc]all |[Dd]ial )[2-9]11\b", lambda m: digits(m[0])),
        (r"\bNos\. ?(?=\d)", "numbers "),
        (r"\bN[oº°]\.? ?(?=\d)|№ ?|#(?=\d)", "number "),
        (r"§ ?(?=\d)", "section "),
        (rf"\b({_either(REFERENCES)})\. ?(?=\d)", lambda m: REFERENCES[m[1]] + " "),
        (
            rf"\b({_either(r.title() for r in REFERENCES)})\. ?(?=\d)",
            lambda m: REFERENCES[m[1].lower()] + " ",
        ),
        (rf"\b(\d{{1,2}}){_FOOT} ?(\d{{1,2}}) (\d[/⁄]\d){_INCH}", r"\1 foot \2 and \3"),
        (rf"\b(\d{{1,2}}){_FOOT} ?(\d{{1,2}})(?:{_INCH}|(?![\d\w'’′]))", _feet),
        (rf"(?<![\w/⁄])({_WITH_FRACTION})\s?({_either(UNITS)})(?![\w°]|\.\w)", _unit_of_fraction),
        (rf"(?<![\w/⁄])({_WITH_FRACTION})({_INCH})", _inches),
        (r"\b(\d{1,2}) ?(?:ft|feet|foot)\.? (\d{1,2}) ?(?:in|inches|inch)\b\.?", _feet_and_inches),
        (rf"(?<![\d/⁄.])({_NUMBER})({_INCH})", _inches),
        (rf"\b({_NUMBER})(?:′|{_FOOT}(?= (?:tall|wide|long|high|deep|by|x)\b))", r"\1 feet"),
        (r"(?<=[\d%°])(?:\s?[-–]\s?)(?=[$£€]?\.?\d)", " to "),
        (r"(?<=\d)\s?bn\b", " billion"),
        (rf"{_APART}(\d+\.\d+)M\b", r"\1 million"),  # 3M is a company
        (r"(?<=\d)[mM](?= (?:dollars?|pounds|euros|people|users|budget|views)\b)", " million"),
        (rf"{_APART}({_NUMBER})\s?({_either(LENGTHS)})([²³2](?!\w))", _area),
        (rf"\b({_either(LENGTHS)})²", lambda m: f"square {UNITS[m[1]][1]}"),
        (r"[²³]", lambda m: " 2" if m[0] == "²" else " 3"),
        (rf"{_APART}({_NUMBER})\s?({_either(UNITS)})(?![\w°]|\.\w)", _unit),
        (rf"({_NUMBER})°(?=[NSEW]\b)", lambda m: f"{_number(m[1])} degrees "),
        (r"(?<=\w)/(hour|day|week|month|year|night|person)\b", r" per \1"),
        (r"(?<=\w)/hr\b", " per hour"),
        (r"(?<=\d)\s?\*\s?(?=\d)", " times "),
        (r"(?<=\d)\s?[x×]\s?(?=\d)", " by "),
        (r"(?<=[\d\s])÷\s?(?=\d)", " divided by "),
        (r"±\s?(?=\d)", " plus or minus "),
        (r"≤\s?(?=\d)", " less than or equal to "),
        (r"≥\s?(?=\d)", " greater than or equal to "),
        (r"(?<!\S)<\s?(?=\d)", "less than "),
        (r"(?<!\S)>\s?(?=\d)", "greater than "),
        (r"(?<!\w)[~≈]\s?(?=\d)", "about "),
        (r"\b(\d{1,15})(?:st|nd|rd|th|ST|ND|RD|TH)\b", lambda m: ordinal(int(m[1]))),
        (r"['’]?\b((?:\d\d)?\d0)['’]?s\b", _decade),
        (r"\b(?:(\d{1,15}) )?(\d{1,4})[/⁄](\d{1,4})(?:nds|rds|ths|th)?\b", _fraction),
        (r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])", " "),
        (r"\b\d+(?:\.\d+){2,}\b", _version),
        (r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|(?<!\w)\.\d+", lambda m: _number(m[0])),
)  # fmt: skip
_WORDS: Rules = (
        (
            rf"\b({_either(r.title() for r in REFERENCES)})\. ?(?=[IVXL]+\b)",
            lambda m: REFERENCES[m[1].lower()].title() + " ",
        ),
        (rf"\b((?i:{_COUNTED})) ([IVXL]{{2,}})\b", _counted),
        (rf"\b({_COUNTED}) ([IVX])\b{_ENDS}", _counted),
        (rf"\b({_either(roman.RULERS)}) I\b(?= of\b)", r"\1 the first"),
        (r"\b([A-Z][a-z]+) (?!XL\b)([IVXL]{2,})\b(?!['’]?[a-rt-z])", _ruler_or_sequel),
        (r"\b(?=[MDCLXVI]{5})[MDCLXVI]+\b", _long_roman),
        # Abbreviations.
        (rf"\b{_MONTH}(?= [12]\d{{3}}\b)", lambda m: MONTHS[_month(m["month"]) - 1]),
        (rf"\b({_either(TITLES)})\.(?=[A-Z])", lambda m: TITLES[m[1]] + " "),
        (rf"\b({_either(TITLES)})\b\.?(?= )", lambda m: TITLES[m[1]]),
        (r"\bSt\. (?=[A-Z])", "Saint "),
        (r"\bSt\.", "street"),
        (rf"\b({_either(ABBREVIATIONS)})\.", lambda m: ABBREVIATIONS[m[1]]),
        (r"\bw/o\b", "without"),
        (r"\bw/ ?(?=\w)", "with "),
        (r"\bc/o\b", "care of"),
        # What is left of numbers, each a word of its own even inside B2B, and of signs.
        (r"\b([A-Za-z])\+\+", r"\1 plus plus"),
        (r"\b([A-G])#(?!\w)", r"\1 sharp"),
        (r"(?<!\w)#(?=[^\W\d_])", "hashtag "),
        (r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])", " "),
        (r"\d+", _year_or_number),
        (r"\s?\+\s?(?=\w)", " plus "),
        (r"\b((?:[A-F]|zero|ten|[a-z]+(?:teen|ty|one|two|three|four|five|six|seven|eight|nine)|"
         r"one|two|three|four|five|six|seven|eight|nine))\+(?!\w)", r"\1 plus"),
        (r"(?<=\w)\s?=\s?", " equals "),
        (r"(?<=\w)\s?\^\s?(?=\w)", " to the power of "),
        (r"(?<=\w)\s?@\s?(?=\w)", " at "),
        (r"(?<!\w)@(?=\w)", "at "),
)  # fmt: skip
_DIGIT = re.compile(r"[\d²³]")
_UNUSUAL = re.compile(r"[^\x00-\x7f²³]")  # the two may belong to a unit
# Text without any of these is what it was after all rules. They are three for speed: a pattern of
# alternatives that all begin with a letter skips to the next place with one of these letters.
_SIGNS = re.compile(r"[^\x00-\x7fÀ-ɏ‘’“”–—…]|[\d#@+=^/]")
_CAPITALIZED = re.compile(
    "|".join(
        (
            *(rf"{title}\b" for title in TITLES),
            *(rf"{word}\." for word in ("St", *filter(str.istitle, ABBREVIATIONS))),
            *(rf"{word} I\b" for word in (*roman.COUNTED, *roman.RULERS)),
            *(rf"{word.title()}\. ?[IVXL]" for word in REFERENCES),
            *(rf"{letter}[IVXL]" for letter in "IVXL"),
            *(rf"{letter}[MDCLXVI]{{4}}" for letter in "MDC"),
            *(r"V\b", r"X\b"),
        )
    )
)
_PARTS = (
    "www.",
    *(f"{word}." for word in ABBREVIATIONS if not word.istitle()),
    *(f".{name.replace(chr(92), '')}" for name in _TOP_DOMAINS.split("|")),
)

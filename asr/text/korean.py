"""Korean: numbers, units and letters as they are said."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from asr.text import normalize as plain

_SINO = "영일이삼사오육칠팔구"
_PHONE = "공" + _SINO[1:]
_PLACES = ("", "십", "백", "천")
_MYRIADS = ("", "만", "억", "조", "경")
_NATIVE_ONES = ("", "한", "두", "세", "네", "다섯", "여섯", "일곱", "여덟", "아홉")
_NATIVE_TENS = ("", "열", "스물", "서른", "마흔", "쉰", "예순", "일흔", "여든", "아흔")
# What is counted with native numerals; behind them stands what only begins with such a counter.
_COUNTERS = (
    "개|명|살|시|마리|가지|곳|건|잔|병|권|장|벌|켤레|그루|송이|채|척|사람|달|배|팀|차례|"
    "군데|마디|쌍|줄|바퀴|방울|조각|상자|그릇|접시|봉지"
)
_NOT_COUNTERS = "개월|개국|개년|시즌|시대|장조|배럴|달러"
_UNITS = {
    "km": "킬로미터",
    "cm": "센티미터",
    "mm": "밀리미터",
    "m": "미터",
    "M": "미터",
    "kg": "킬로그램",
    "mg": "밀리그램",
    "g": "그램",
    "ml": "밀리리터",
    "mL": "밀리리터",
    "l": "리터",
    "L": "리터",
    "GB": "기가바이트",
    "MB": "메가바이트",
    "℃": "도",
    "°C": "도",
    "%": "퍼센트",
    "$": "달러",
    "₩": "원",
    "€": "유로",
    "¥": "엔",
}
_LETTER_NAMES = """에이 비 시 디 이 에프 지 에이치 아이 제이 케이 엘 엠 엔 오 피 큐 아르 에스 티 유
    브이 더블유 엑스 와이 제트""".split()
_LETTERS = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", _LETTER_NAMES, strict=True))


def normalize(text: str) -> str:
    """What `asr.text.normalize.normalize` gives, after everything that is said is spelled out.

    >>> normalize("2016년 7월 4일, 20명이 KBS에!")
    '이천십육년 칠월 사일 스무명이 케이비에스에'
    """
    return plain.normalize(spell_out(text))


def spell_out(text: str) -> str:
    """Replace digits, units and capital letters by what is said; keep all else, spaces too.

    >>> spell_out("10월 26일 오후 2시, 64.5%, 010-1234-5678")
    '시월 이십육일 오후 두시, 육십사쩜오퍼센트, 공일공 일이삼사 오육칠팔'
    """
    for pattern, reading in _RULES:
        text = pattern.sub(reading, text)
    return text


def cardinal(number: int) -> str:
    """Sino-Korean numeral.

    >>> cardinal(16_000), cardinal(2016), cardinal(0)
    ('만육천', '이천십육', '영')
    """
    if number == 0:
        return _SINO[0]
    groups = []
    for myriad in _MYRIADS:
        number, group = divmod(number, 10_000)
        if group:
            # Ten thousand is 만, not 일만; a hundred million keeps its one.
            said = "" if group == 1 and myriad == "만" and not number else _group(group)
            groups.append(said + myriad)
    return "".join(reversed(groups))


def native(number: int) -> str:
    """Native Korean numeral from 1 to 99, in the form that stands before a counter.

    >>> native(1), native(20), native(27)
    ('한', '스무', '스물일곱')
    """
    tens, ones = divmod(number, 10)
    return "스무" if number == 20 else _NATIVE_TENS[tens] + _NATIVE_ONES[ones]


def digits(number: str, names: str = _PHONE) -> str:
    """Digit by digit, as telephone numbers are said.

    >>> digits("010-12")
    '공일공 일이'
    """
    return "".join(names[int(c)] if c.isdecimal() else " " for c in number)


def _group(number: int) -> str:
    """Of 1 to 9999: a one is said only in the last place."""
    said = ""
    for place in range(3, -1, -1):
        digit = number // 10**place % 10
        if digit:
            said += ("" if digit == 1 and place else _SINO[digit]) + _PLACES[place]
    return said


def _number(number: str) -> str:
    whole, _, fraction = number.replace(",", "").partition(".")
    if len(whole) > 4 * len(_MYRIADS) or (len(whole) > 1 and whole.startswith("0")):
        said = digits(whole)
    else:
        said = cardinal(int(whole))
    return f"{said}쩜{digits(fraction, _SINO)}" if fraction else said


def _counted(match: re.Match[str]) -> str:
    number = int(match[1])
    return native(number) if 1 <= number <= 99 else _number(match[1])


def _either(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"
Reading = str | Callable[[re.Match[str]], str]
_RULES: tuple[tuple[re.Pattern[str], Reading], ...] = tuple(
    (re.compile(pattern), reading)
    for pattern, reading in (
        (r"\b0\d{1,2}-\d{3,4}-\d{4}\b|\b1[05]\d\d-\d{4}\b", lambda m: digits(m[0])),
        (r"\b11[249](?!\d|\.|년|월|일|개|명|원|점|%)", lambda m: digits(m[0])),  # emergency calls
        (r"(?<=\d)\s?[~∼]\s?(?=\d)", "에서 "),
        (rf"([$₩€¥])\s?({_NUMBER}(?:[천만억조])?)", r"\2\1"),  # the unit is said last
        (rf"(?<=\d)([천만억조]?)\s?({_either(_UNITS)})(?![a-zA-Z])", lambda m: m[1] + _UNITS[m[2]]),
        (r"\b6월", "유월"),
        (r"\b10월", "시월"),
        (r"\b(?:1[3-9]|2[0-4])(?=시(?!간))", lambda m: cardinal(int(m[0]))),
        (
            rf"(?<![\d.,])(\d{{1,2}})(?=\s?(?:{_COUNTERS}))(?!\s?(?:{_NOT_COUNTERS}))",
            _counted,
        ),
        (_NUMBER, lambda m: _number(m[0])),
        (r"(?<=[A-Z])\.(?=[A-Z])", ""),
        (r"(?<![a-zA-Z])[A-Z]+(?![a-zA-Z])", lambda m: "".join(_LETTERS[c] for c in m[0])),
    )
)

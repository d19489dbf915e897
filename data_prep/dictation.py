"""Sentences of what people dictate: names spelled by letters, telephone numbers, codes, dates.

Written text has none of it as it is spoken, so a language model of written text alone turns spelled
names into prose. The names, addresses and companies are made up by Faker.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from random import Random
from string import ascii_lowercase

from faker import Faker

from asr.text.english_numbers import cardinal
from asr.text.english_terms import MONTHS
from asr.text.languages import normalizer

_LOCALES = (
    *("en_US", "en_GB", "en_IN", "en_AU", "en_NZ", "es_ES", "es_MX", "de_DE", "fr_FR", "it_IT"),
    *("pt_BR", "nl_NL", "pl_PL", "sv_SE", "tr_TR", "id_ID", "en_PH", "no_NO", "fi_FI", "cs_CZ"),
)
_MINUTES = ("five", "ten", "quarter", "twenty", "twenty five")
_THINGS = {
    "number": ("phone", "account", "card", "reference", "customer", "flight", "order", "policy"),
    "code": ("booking", "access", "confirmation", "postal", "product", "security", "error"),
}


class Dictation:
    """Lines as they are said, lower case and without digits; a seed gives the same lines.

    >>> lines = Dictation(seed=1)
    >>> lines.spelled("Anna Lee", double=True)
    'a double n a l double e'
    >>> lines.digits("0550", zero="oh", double=True)
    'oh double five oh'
    """

    def __init__(self, seed: int = 0):
        self._random = Random(seed)
        self._fake = Faker(_LOCALES, use_weighting=False)
        self._english = Faker("en_US")
        for fake in (self._fake, self._english):
            fake.seed_instance(seed)
        self._say = normalizer("en")
        self._kinds: dict[Callable[[], str], int] = {
            self._spelled_name: 30,
            self._number: 30,
            self._code: 10,
            self._date: 8,
            self._time: 6,
            self._price: 6,
            self._address: 6,
            self._electronic_address: 4,
        }

    def __iter__(self) -> Iterator[str]:
        kinds, weights = list(self._kinds), list(self._kinds.values())
        while True:
            [kind] = self._random.choices(kinds, weights)
            if line := self._say(kind()).strip():
                yield line

    def spelled(self, text: str, *, double: bool = False) -> str:
        """Letter by letter; with `double`, two of a kind are said as "double"."""
        return " ".join(
            self._repeated(letter, len(list(group)), double)
            for word in plain_letters(text).split()
            for letter, group in itertools.groupby(word)
        )

    def digits(self, digits: str, *, zero: str = "zero", double: bool = False) -> str:
        """Digit by digit."""
        return " ".join(
            self._repeated(zero if digit == "0" else cardinal(int(digit)), len(list(group)), double)
            for digit, group in itertools.groupby(digits)
        )

    @staticmethod
    def _repeated(symbol: str, times: int, double: bool) -> str:
        if double and times in (2, 3):
            return f"{('double', 'triple')[times - 2]} {symbol}"
        return " ".join([symbol] * times)

    def _spelled_name(self) -> str:
        name = plain_letters(f"{self._fake.first_name()} {self._fake.last_name()}")
        parts = name.split()
        chosen = self._random.choice([name, name, parts[-1], parts[0]])
        letters = self.spelled(chosen, double=self._random.random() < 0.15)
        return self._random.choice(
            [letters] * 12
            + [
                f"{chosen} {letters}",
                f"my name is {name} {letters}",
                f"that is {letters}",
                f"it is spelled {letters}",
                f"{chosen} that's {letters}",
                f"the last name is {parts[-1]} {self.spelled(parts[-1])}",
            ]
        )

    def _number(self) -> str:
        length = self._random.choice([3, 4, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10, 10, 11, 12, 16])
        said = self._said_digits(length)
        kind = self._random.choice(_THINGS["number"])
        return self._random.choice(
            [said] * 12
            + [
                f"my {kind} number is {said}",
                f"the {kind} number is {said}",
                f"call me at {said}",
                f"you can reach me on {said}",
                f"it's {said}",
                f"{kind} number {said}",
            ]
        )

    def _said_digits(self, length: int) -> str:
        digits = "".join(self._random.choices("0123456789", k=length))
        zero = "oh" if self._random.random() < 0.25 else "zero"
        return self.digits(digits, zero=zero, double=self._random.random() < 0.2)

    def _code(self) -> str:
        parts = [
            self._random.choice(ascii_lowercase)
            if self._random.random() < 0.5
            else self._said_digits(self._random.randint(1, 3))
            for _ in range(self._random.randint(2, 6))
        ]
        said, kind = " ".join(parts), self._random.choice(_THINGS["code"])
        return self._random.choice(
            [said, said, f"the {kind} code is {said}", f"{kind} code {said}"]
        )

    def _date(self) -> str:
        day = date(1930, 1, 1) + timedelta(days=self._random.randrange(40_000))
        month = MONTHS[day.month - 1].title()
        said = self._random.choice(
            [
                f"{month} {day.day}, {day.year}",
                f"{month} {day.day}",
                f"{day.day} {month} {day.year}",
                f"the {day.day} of {month}",
            ]
        )
        return self._random.choice([said, said, f"on {said}", f"i was born on {said}"])

    def _time(self) -> str:
        hour, minute = self._random.randrange(12) or 12, self._random.randrange(60)
        if self._random.random() < 0.4:
            hour_name, away = cardinal(hour), self._random.choice(_MINUTES)
            said = self._random.choice(
                [
                    f"half past {hour_name}",
                    f"{away} past {hour_name}",
                    f"{away} to {hour_name}",
                    f"{hour_name} o'clock",
                ]
            )
        else:
            said = f"{hour}:{minute:02} {self._random.choice(['a.m.', 'p.m.'])}"
        return self._random.choice([said, f"at {said}", f"the meeting is at {said}"])

    def _price(self) -> str:
        amount = self._random.choice(
            [
                f"{self._random.randrange(100)}.{self._random.randrange(100):02}",
                f"{self._random.randrange(1, 100)}",
                f"{self._random.randrange(1, 500) * 10}",
            ]
        )
        sign = self._random.choice("$$$€£")
        return self._random.choice([f"{sign}{amount}", f"that is {sign}{amount}"])

    def _address(self) -> str:
        street, city = self._english.street_address(), self._english.city()
        code = self._said_digits(5)
        said = self._random.choice([street, f"{street} {city}", f"{street} {city} {code}"])
        return self._random.choice([said, said, f"i live at {said}", f"send it to {said}"])

    def _electronic_address(self) -> str:
        kinds: list[Callable[[], str]] = [self._english.email, self._english.domain_name]
        said = self._random.choice(kinds)()
        return self._random.choice([said, f"my email is {said}", f"write to {said}"])


def plain_letters(text: str) -> str:
    """The letters a to z of a text and the spaces between, lower case, without accents.

    >>> plain_letters("Zoë O'Brien-Núñez")
    'zoe obrien nunez'
    """
    bare = unicodedata.normalize("NFKD", text.replace("-", " ")).lower()
    return re.sub("[^a-z ]", "", bare)

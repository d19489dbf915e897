"""Roman numerals of English text: `Henry VIII`, `World War II`, `Chapter IV`, `MCMXCIV`.

Letters are numerals only where they can hardly be anything else: behind a word with a capital (not
in text that is all capitals), and `I`, `V` and `X` alone behind a word that is counted.
"""

from __future__ import annotations

import re

_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_WELL_FORMED = re.compile(r"M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
COUNTED = """Act Appendix Apollo Article Book Canto Chapter Class Division Figure Grade Lesson Level
    Mark Part Phase Psalm Scene Section Series Stage Table Title Type Volume War""".split()
# Of kings, queens and popes: the second, not two.
RULERS = """
    Abdul Adrian Albert Alexander Alfonso Amenhotep Antiochus Artaxerxes Baldwin Benedict
    Boniface Carl Catherine Charles Christian Clement Conrad Constantine Cyrus Darius Edward
    Elizabeth Eugene Ferdinand Francis Frederick Friedrich George Gregory Gustav Hamid
    Harald Heinrich Henry Innocent Isabella Ivan James John Joseph Julius Leo Leopold Louis
    Malcolm Manuel Margaret Mary Maximilian Mehmed Mithridates Murad Napoleon Nicholas Olaf
    Otto Paul Pedro Peter Philip Pius Ptolemy Ramesses Ramses Richard Robert Rudolf Sancho
    Selim Sigismund Sixtus Stephen Suleiman Thutmose Umberto Urban Victor Vladimir Wilhelm
    William Xerxes
""".split()


def value(numeral: str) -> int:
    """0 for what is no well-formed numeral.

    >>> value("XIV"), value("IIX"), value("MCMXCIV")
    (14, 0, 1994)
    """
    if not numeral or not _WELL_FORMED.fullmatch(numeral):
        return 0
    values = [_VALUES[letter] for letter in numeral]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))

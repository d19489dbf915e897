"""Korean syllables as jamo, and back.

A syllable block is one of 11,172 characters but at most three of 67 jamo, so a network that spells
jamo needs few classes and knows every syllable, also those that it was never trained on.
"""

from __future__ import annotations

import re
import unicodedata

# Conjoining jamo (Unicode 3.12): initial, medial and final ones are different characters, so a
# spelling can be read back in one way only.
JAMO = tuple(map(chr, [*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]))


def decompose(text: str) -> str:
    """Syllable blocks as conjoining jamo; all else stays.

    >>> len("한글"), len(decompose("한글"))
    (2, 6)
    """
    return re.sub("[가-힣]+", lambda m: unicodedata.normalize("NFD", m[0]), text)


def compose(text: str) -> str:
    """Conjoining jamo as syllable blocks; the inverse of `decompose`.

    >>> compose(decompose("값을 읽다")) == "값을 읽다"
    True
    """
    return re.sub("[\u1100-\u11ff]+", lambda m: unicodedata.normalize("NFC", m[0]), text)

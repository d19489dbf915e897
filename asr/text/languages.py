"""Which rules a language has for making spoken words of written text."""

from __future__ import annotations

import re
from collections.abc import Callable

from asr.text import english, korean
from asr.text.normalize import normalize

_NORMALIZERS = {"en": english.normalize, "ko": korean.normalize}
_SPELLERS = {"en": english.spell_out, "ko": korean.spell_out}


def normalizer(language: str) -> Callable[[str], str]:
    """For a language tag such as `en` or `en-GB`; languages without their own get the default.

    >>> normalizer("en-GB")("No. 5")
    'number five'
    >>> normalizer("de")("Nr. 5")
    'nr 5'
    """
    return _NORMALIZERS.get(_primary(language), normalize)


def speller(language: str) -> Callable[[str], str]:
    """What spells out numbers and the like, and leaves case and punctuation as they are.

    >>> speller("en")("Room 5!"), speller("de")("Raum 5!")
    ('Room five!', 'Raum 5!')
    """
    return _SPELLERS.get(_primary(language), str)


def _primary(language: str) -> str:
    return re.split("[-_]", language)[0].lower()

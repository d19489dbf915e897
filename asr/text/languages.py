"""Which normaliser a language has."""

from __future__ import annotations

import re
from collections.abc import Callable

from asr.text import english, korean
from asr.text.normalize import normalize

_NORMALIZERS = {"en": english.normalize, "ko": korean.normalize}


def normalizer(language: str) -> Callable[[str], str]:
    """For a language tag such as `en` or `en-GB`; languages without their own get the default.

    >>> normalizer("en-GB")("No. 5")
    'number five'
    >>> normalizer("de")("Nr. 5")
    'nr 5'
    """
    return _NORMALIZERS.get(re.split("[-_]", language)[0].lower(), normalize)

"""Which rules a language has for making spoken words of written text."""

from __future__ import annotations

import re
from collections.abc import Callable

from asr.text import english, korean
from asr.text.normalize import normalize

_NORMALIZERS = {"en": english.normalize, "ko": korean.normalize}
# Of the languages that models are most likely made for; others go by their tags.
_NAMES = {
    **{"en": "English", "ko": "Korean", "de": "German", "fr": "French", "es": "Spanish"},
    **{"it": "Italian", "pt": "Portuguese", "nl": "Dutch", "ru": "Russian", "pl": "Polish"},
    **{"ja": "Japanese", "zh": "Chinese", "ar": "Arabic", "hi": "Hindi", "tr": "Turkish"},
}
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


def language_name(tag: str) -> str:
    """
    >>> language_name("en-GB"), language_name("xx")
    ('English', 'xx')
    """
    return _NAMES.get(_primary(tag), tag)


def same_language(name: str, tag: str) -> bool:
    """Whether a tag or an English name means the language of `tag`, whatever the region.

    >>> same_language("English", "en-GB"), same_language("EN_us", "en"), same_language("fr", "en")
    (True, True, False)
    """
    return _primary(name) == _primary(tag) or name.lower() == language_name(tag).lower()


def _primary(language: str) -> str:
    return re.split("[-_]", language)[0].lower()

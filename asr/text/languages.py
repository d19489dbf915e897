"""Which rules a language has for making spoken words of written text."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import Any

from asr.text.normalize import normalize

_RULES = {"en": "asr.text.english", "ko": "asr.text.korean"}
# Of the languages that models are most likely made for; others go by their tags.
_NAMES = {
    **{"en": "English", "ko": "Korean", "de": "German", "fr": "French", "es": "Spanish"},
    **{"it": "Italian", "pt": "Portuguese", "nl": "Dutch", "ru": "Russian", "pl": "Polish"},
    **{"ja": "Japanese", "zh": "Chinese", "ar": "Arabic", "hi": "Hindi", "tr": "Turkish"},
}


def normalizer(language: str) -> Callable[[str], str]:
    """For a language tag such as `en` or `en-GB`; languages without their own get the default.

    >>> normalizer("en-GB")("No. 5")
    'number five'
    >>> normalizer("de")("Nr. 5")
    'nr 5'
    """
    rules = _rules(language)
    return rules.normalize if rules else normalize


def speller(language: str) -> Callable[[str], str]:
    """What spells out numbers and the like, and leaves case and punctuation as they are.

    >>> speller("en")("Room 5!"), speller("de")("Raum 5!")
    ('Room five!', 'Raum 5!')
    """
    rules = _rules(language)
    return rules.spell_out if rules else str


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


def _rules(language: str) -> Any:
    """The module of a language, None without one. Its expressions take a while to compile, so it is
    imported only where it is needed."""
    name = _RULES.get(_primary(language))
    return import_module(name) if name else None


def _primary(language: str) -> str:
    return re.split("[-_]", language)[0].lower()

"""Names of languages, as clients write them: `en`, `en-US`, `eng`, `English`."""

from __future__ import annotations

from collections.abc import Iterable

from serve.limits import Refused, bad_request

# ISO 639-1 codes and the English names that Whisper's family of programs uses.
NAMES = {
    "af": "afrikaans",
    "ar": "arabic",
    "az": "azerbaijani",
    "be": "belarusian",
    "bg": "bulgarian",
    "bn": "bengali",
    "bs": "bosnian",
    "ca": "catalan",
    "cs": "czech",
    "cy": "welsh",
    "da": "danish",
    "de": "german",
    "el": "greek",
    "en": "english",
    "es": "spanish",
    "et": "estonian",
    "eu": "basque",
    "fa": "persian",
    "fi": "finnish",
    "fr": "french",
    "gl": "galician",
    "he": "hebrew",
    "hi": "hindi",
    "hr": "croatian",
    "hu": "hungarian",
    "hy": "armenian",
    "id": "indonesian",
    "is": "icelandic",
    "it": "italian",
    "ja": "japanese",
    "ka": "georgian",
    "kk": "kazakh",
    "ko": "korean",
    "la": "latin",
    "lt": "lithuanian",
    "lv": "latvian",
    "mk": "macedonian",
    "ml": "malayalam",
    "mn": "mongolian",
    "mr": "marathi",
    "ms": "malay",
    "nl": "dutch",
    "no": "norwegian",
    "pl": "polish",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sk": "slovak",
    "sl": "slovenian",
    "sq": "albanian",
    "sr": "serbian",
    "sv": "swedish",
    "sw": "swahili",
    "ta": "tamil",
    "te": "telugu",
    "th": "thai",
    "tl": "tagalog",
    "tr": "turkish",
    "uk": "ukrainian",
    "ur": "urdu",
    "uz": "uzbek",
    "vi": "vietnamese",
    "yo": "yoruba",
    "zh": "chinese",
}
_CODES = {name: code for code, name in NAMES.items()} | {
    "castilian": "es",
    "flemish": "nl",
    "mandarin": "zh",
    "moldavian": "ro",
    "valencian": "ca",
    # ISO 639-3, of the languages that are asked for so
    "deu": "de",
    "eng": "en",
    "fra": "fr",
    "ita": "it",
    "jpn": "ja",
    "kor": "ko",
    "por": "pt",
    "rus": "ru",
    "spa": "es",
    "zho": "zh",
}


def language_name(code: str) -> str:
    """The English name of a language; its code where nobody knows the name.

    >>> language_name("en")
    'english'
    """
    return NAMES.get(code, code)


def check_language(wanted: object, spoken: str) -> None:
    """Raises Refused where a client wants another language than the model's.

    >>> for wanted in (None, "", "en", "en-US", "EN_gb", "English", "eng"):
    ...     check_language(wanted, "en")
    """
    if wanted is None or wanted == "":
        return
    name = str(wanted).strip().lower().replace("_", "-").split("-")[0]
    if _CODES.get(name, name) != spoken:
        raise bad_request(
            f"the language {wanted!r:.30} is not spoken here: {spoken!r} is", "language"
        )


def check_languages(possible: Iterable[object], spoken: str) -> None:
    """Raises Refused where none of the languages that a client names is the model's."""
    refusal = None
    for language in possible:
        try:
            check_language(language, spoken)
        except Refused as refused:
            refusal = refusal or refused
        else:
            return
    if refusal is not None:
        raise refusal

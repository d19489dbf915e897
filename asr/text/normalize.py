"""Written text to the plain form that acoustic and language models are trained on and scored with.

The same function serves transcripts, language-model text and references of an evaluation, so that
none of them can drift apart. Numbers and abbreviations are a language's business: see
`asr.text.english`.
"""

from __future__ import annotations

import re
import unicodedata

# Typographic variants of characters that a transcript may hold, mapped before anything else.
_VARIANTS = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u02bc": "'",
        "\u00b4": "'",
        "`": "'",
        "\u2010": "-",
        "\u2011": "-",
        "\u2012": "-",
        "\u2013": "-",
        "\u2014": "-",
        "\u2015": "-",
        "\u00e6": "ae",
        "\u0153": "oe",
        "\u00f8": "o",
        "\u00df": "ss",
        "\u0142": "l",
        "\u0111": "d",
    }
)
# Invisible: soft hyphens, joiners, direction and variation marks, and what makes a key of a digit.
_VARIANTS.update(
    dict.fromkeys(
        [0xAD, 0x20E3, 0xFEFF]
        + [code for first in (0x200B, 0x202A, 0x2060) for code in range(first, first + 5)]
        + list(range(0xFE00, 0xFE10)),
        "",
    )
)
# What becomes of ASCII alone, which most text is once its quotes and dashes are plain ones.
_ASCII = {code: " " for code in range(128) if not chr(code).isalnum() and chr(code) != "'"}
_ASCII |= {ord("&"): " and ", ord("`"): "'"}
_QUOTES = str.maketrans(dict.fromkeys("“”„«»…", " "))
# An apostrophe is part of a word between its letters only: 'quoted' loses them, don't keeps it.
_LONE_APOSTROPHE = re.compile(r"(?<!\w)'+|'+(?!\w)")
_LONE_MARKS = re.compile(r"(?<!\S)[\u0300-\u036f\u20d0-\u20f0]+")


def normalize(text: str) -> str:
    """Lower-case words with single spaces; accents and punctuation removed, apostrophes kept.

    Letters of any script, and digits, are kept as they are: what a vocabulary cannot spell is for
    the vocabulary to count and report, not for this function to drop silently.

    >>> normalize("  “Don't” — she said: it’s a café, well-known…")
    "don't she said it's a cafe well known"
    >>> normalize("'tis 7 o'clock & 3")
    "tis 7 o'clock and 3"
    """
    text = text.lower()
    if not text.isascii():
        text = text.translate(_VARIANTS).translate(_QUOTES)
    if text.isascii():
        text = text.translate(_ASCII)
    else:
        text = unicodedata.normalize("NFKC", text).lower()
        text = text.translate(_VARIANTS).replace("&", " and ")
        text = _strip_latin_accents("".join(map(_plain, text)))  # in this order: '¿' may hold marks
        text = _LONE_MARKS.sub(" ", text)
    if "'" in text:
        text = _LONE_APOSTROPHE.sub(" ", text)
    return " ".join(text.split())


def unify(text: str) -> str:
    """Typographic apostrophes and dashes made plain ones; all else stays.

    >>> unify("Don’t — she")
    "Don't - she"
    """
    return text.translate(_VARIANTS)


def _strip_latin_accents(text: str) -> str:
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFD", text)
    kept: list[str] = []
    for character in decomposed:
        # Marks on Latin letters only: Hangul, Devanagari and others are spelled with theirs.
        if unicodedata.combining(character) and kept and kept[-1].isascii():
            continue
        kept.append(character)
    return unicodedata.normalize("NFC", "".join(kept))


def _plain(character: str) -> str:
    if character == "'" or unicodedata.category(character)[0] in "LMN":
        return character
    return " "

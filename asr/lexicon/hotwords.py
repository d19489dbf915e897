"""Hot words as people write them, made into phrases that a decoder can listen for."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from asr.errors import DecodeError
from asr.files import read_text
from asr.text.languages import normalizer, speller
from asr.text.normalize import unify

_SYMBOLS = "#*@%\\§"  # not spoken, beside what Unicode calls symbols
_MARK = re.compile(r"\s*(\[\w+\]|<\w+>)\s*")  # such as [unk], which grammars of Vosk hold


@dataclass(frozen=True, slots=True)
class Hotword:
    """A phrase as somebody wrote it. `boost`: natural log, None: the decoder's own.

    `source` says where it comes from, such as `names.txt: line 3`.
    """

    phrase: str
    boost: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class SkippedHotword:
    """`part` of a hot word (all of it, or symbols in it) is left out for `reason`.

    >>> print(SkippedHotword(Hotword("C*", source="names.txt: line 3"), "*", "not spoken"))
    names.txt: line 3: '*' of the hot word 'C*' is skipped: not spoken
    """

    hotword: Hotword
    part: str
    reason: str

    def __str__(self) -> str:
        whole = f"the hot word {self.hotword.phrase!r}"
        what = whole if self.part == self.hotword.phrase else f"{self.part!r} of {whole}"
        where = f"{self.hotword.source}: " if self.hotword.source else ""
        return f"{where}{what} is skipped: {self.reason}"


@dataclass(frozen=True)
class PreparedHotwords:
    """What a decoder takes: `boosts` of normalised phrases, `spellings` of words that the lexicon
    lacks (in its labels), and what was `skipped`."""

    boosts: dict[str, float] = field(default_factory=dict)
    spellings: dict[str, Sequence[Sequence[int]]] = field(default_factory=dict)
    skipped: tuple[SkippedHotword, ...] = ()


NO_HOTWORDS = PreparedHotwords()
Hotwords: TypeAlias = "Mapping[str, float] | Iterable[str | Hotword]"
Spell: TypeAlias = "Callable[[str], Sequence[Sequence[int]] | None]"


def prepare_hotwords(
    hotwords: Hotwords, *, boost: float, language: str, spell: Spell
) -> PreparedHotwords:
    """Fold case and accents, spell numbers out, pronounce, and skip what cannot be said.

    Args:
        hotwords: phrases as people write them, or phrase -> boost.
        boost: of phrases without one of their own (natural log).
        language: whose numbers and abbreviations are spelled out, such as `en`.
        spell: the labels of each way to say a word that the lexicon lacks, None for one that it
            has; raises DecodeError for one that cannot be said (`asr.lexicon.pronounce.Speller`).

    Raises DecodeError for a boost that is negative or not finite.
    """
    if isinstance(hotwords, Mapping):
        hotwords = [Hotword(phrase, value) for phrase, value in hotwords.items()]
    prepared = PreparedHotwords()
    skipped: list[SkippedHotword] = []
    for item in hotwords:
        hotword = Hotword(item) if isinstance(item, str) else item
        if not isinstance(hotword, Hotword) or not isinstance(hotword.phrase, str):
            raise DecodeError(f"the hot word {item!r} is not text", "give phrases, such as 'Kyiv'")
        own = boost if hotword.boost is None else hotword.boost
        _check_boost(hotword, own)
        if _MARK.fullmatch(hotword.phrase):
            skipped.append(SkippedHotword(hotword, hotword.phrase, "a mark, not a word"))
            continue
        phrase = normalizer(language)(hotword.phrase)
        try:
            spellings = {word: spell(word) for word in phrase.split()}
        except DecodeError as error:
            skipped.append(SkippedHotword(hotword, hotword.phrase, str(error)))
            continue
        if not spellings:
            skipped.append(SkippedHotword(hotword, hotword.phrase, "nothing in it is spoken"))
            continue
        if symbols := _unspoken(hotword.phrase, language):
            skipped.append(SkippedHotword(hotword, symbols, "symbols are not spoken"))
        prepared.spellings.update({w: s for w, s in spellings.items() if s is not None})
        if own > 0:
            prepared.boosts[phrase] = own
    return PreparedHotwords(prepared.boosts, prepared.spellings, tuple(skipped))


def read_hotwords(path: str | Path) -> list[Hotword]:
    """The phrases of a UTF-8 file: one a line, with a boost of its own after a tab if wanted.

    Empty lines and those that begin with `#` are passed over. Raises DecodeError if the file cannot
    be read, or a boost is not a number of at least 0.
    """
    try:
        lines = read_text(path, "utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DecodeError(f"{path}: not UTF-8: {error}", "save it as UTF-8") from error
    except OSError as error:
        raise DecodeError(f"{path}: cannot be read: {error.strerror or error}") from error
    hotwords: list[Hotword] = []
    for number, line in enumerate(lines, 1):
        phrase, _, own = (part.strip() for part in line.partition("\t"))
        if not phrase or phrase.startswith("#"):
            continue
        source = f"{path}: line {number}"
        try:
            hotword = Hotword(phrase, float(own) if own else None, source)
        except ValueError as error:
            raise DecodeError(
                f"{source}: {own!r} is no boost", "give a number after the tab, or none"
            ) from error
        _check_boost(hotword, hotword.boost or 0.0)
        hotwords.append(hotword)
    return hotwords


def _check_boost(hotword: Hotword, boost: float) -> None:
    if not isinstance(boost, int | float) or not 0 <= boost < float("inf"):
        where = f"{hotword.source}: " if hotword.source else ""
        raise DecodeError(
            f"{where}hot word {hotword.phrase!r} has the boost {boost!r}",
            "give a number, 0 or more",
        )


def _unspoken(phrase: str, language: str) -> str:
    """The symbols of a phrase for which its language has no words.

    >>> _unspoken("C*", "en"), _unspoken("50 %", "en"), _unspoken("O'Brien-Smith, Jr.", "en")
    ('*', '', '')
    """
    return "".join(
        character
        for character in speller(language)(unify(phrase))
        if character in _SYMBOLS or unicodedata.category(character).startswith("S")
    )


def with_boosts(hotwords: Mapping[str, float] | Iterable[str], boost: float) -> dict[str, float]:
    """Phrase -> boost, those of boost 0 left out. Raises DecodeError for what is no boost."""
    if not isinstance(hotwords, Mapping):
        hotwords = dict.fromkeys(hotwords, boost)
    for phrase, value in hotwords.items():
        if not 0 <= value < float("inf"):
            raise DecodeError(f"hot word {phrase!r} has the boost {value}", "give 0 or more")
        if not phrase.split():
            raise DecodeError("a hot word is empty")
    return {phrase: float(value) for phrase, value in hotwords.items() if value > 0}

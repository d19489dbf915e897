"""Words and phrases to listen for: an Aho-Corasick automaton over the units of the lexicon.

`prepare_hotwords` makes what people write into what the automaton takes.

Every unit of a phrase earns its share of the phrase's boost as it is spelled, for a boost that is
paid at the end comes too late for a prefix that is gone by then. What a phrase has earned is taken
back as soon as the text takes another turn.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from asr.decode.records import HOTWORD_ARC
from asr.errors import DecodeError
from asr.files import read_text
from asr.text.languages import normalizer, speller
from asr.text.normalize import unify

_SYMBOLS = "#*@%\\§"  # not spoken, beside what Unicode calls symbols
_MARK = re.compile(r"\s*(\[\w+\]|<\w+>)\s*")  # such as [unk], which grammars of Vosk hold
_MAX_PRONUNCIATIONS = 16  # of a phrase: the combinations of its words'


def build_automaton(
    phrases: Mapping[str, float],
    spell: Mapping[str, Sequence[Sequence[int]]],
    units: int,
    boundary: int,
) -> np.ndarray:
    """Transitions (states, units + 1) HOTWORD_ARC of the automaton of all phrases.

    State 0 is outside of all phrases. The last column takes back what is unfinished.
    `phrases`: natural-log boosts.

    `spell`: every word's spellings in labels, `boundary` the label between words. A phrase counts
    only as whole words: it is spelled boundary, units, boundary (Aho and Corasick 1975, "Efficient
    string matching").
    """
    children: list[dict[int, int]] = [{}]
    credit, bank, depth = [0.0], [0.0], [0]
    # Words of a phrase are known words wherever they stand; alone they earn nothing.
    words = dict.fromkeys((word for phrase in phrases for word in phrase.split()), 0.0)
    for phrase, boost in (words | dict(phrases)).items():
        spellings = [spell[word] for word in phrase.split()]
        for chosen in itertools.islice(itertools.product(*spellings), _MAX_PRONUNCIATIONS):
            sequence = [boundary]
            for spelling in chosen:
                sequence += [*spelling, boundary]
            node = 0
            for position, unit in enumerate(sequence):
                if unit not in children[node]:
                    children[node][unit] = len(children)
                    children.append({})
                    credit.append(0.0)
                    bank.append(0.0)
                    depth.append(position + 1)
                node = children[node][unit]
                if position + 1 < len(sequence):
                    share = boost * position / (len(sequence) - 2)
                    credit[node] = max(credit[node], share)
            bank[node] = max(bank[node], boost)

    states = len(children)
    next_state = np.zeros((states, units), np.int32)
    fail = [0] * states
    for unit, child in children[0].items():
        next_state[0, unit] = child
    queue = deque(children[0].values())
    while queue:  # breadth first: what a state falls back to is complete before it
        node = queue.popleft()
        bank[node] += bank[fail[node]]
        credit[node] = max(credit[node], credit[fail[node]])
        next_state[node] = next_state[fail[node]]
        for unit, child in children[node].items():
            fail[child] = int(next_state[fail[node], unit])
            next_state[node, unit] = child
            queue.append(child)
    earned = np.array(credit)
    log_gain = earned[next_state] + np.array(bank)[next_state] - earned[:, None]
    automaton = np.zeros((states, units + 1), HOTWORD_ARC)
    automaton["next"][:, :-1] = next_state
    automaton["weight"][:, :-1] = np.exp(log_gain)
    automaton["weight"][:, -1] = np.exp(-earned)
    automaton["inside"][:, :-1] = (np.array(depth) > 1)[next_state]
    return automaton


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
            has; raises DecodeError for one that cannot be said (`asr.decode.pronounce.Speller`).

    Raises DecodeError for a boost that is negative or not finite.
    """
    if isinstance(hotwords, Mapping):
        hotwords = [Hotword(phrase, value) for phrase, value in hotwords.items()]
    prepared = PreparedHotwords()
    skipped: list[SkippedHotword] = []
    for item in hotwords:
        hotword = Hotword(item) if isinstance(item, str) else item
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
    if not 0 <= boost < float("inf"):
        where = f"{hotword.source}: " if hotword.source else ""
        raise DecodeError(
            f"{where}hot word {hotword.phrase!r} has the boost {boost}", "give 0 or more"
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

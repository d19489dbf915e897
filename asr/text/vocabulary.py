"""The units a network emits, and their way to text and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from asr.errors import VocabularyError
from asr.files import read_text
from asr.text.jamo import JAMO, compose, decompose

BLANK = "<blank>"
WORD_START = "\u2581"  # sentencepiece's mark of a piece that begins a word

UNKNOWN = "<unk>"  # stands in vocabularies of language models for what they lack

Kind = Literal["characters", "pieces", "phones", "words"]
KINDS = get_args(Kind)


@dataclass(frozen=True)
class Vocabulary:
    """Units in the order of the network's classes, the CTC blank among them.

    `characters`: words are separated by the symbol " "; Korean jamo among them spell syllables.
    `pieces`: a piece that begins a word starts with "▁". `phones`: phone symbols
    with spaces between them; words are a lexicon's business. `words`: for language models.

    >>> vocabulary = Vocabulary.characters("abc'")
    >>> vocabulary.encode("a cab")
    [2, 1, 4, 2, 3]
    >>> vocabulary.decode([2, 1, 4, 2, 3])
    'a cab'
    """

    symbols: tuple[str, ...]
    kind: Kind = "characters"
    blank: int = 0
    _index: dict[str, int] = field(init=False, repr=False, compare=False)
    _in_jamo: bool = field(init=False, repr=False, compare=False)
    _longest: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.blank < len(self.symbols) or self.symbols[self.blank] != BLANK:
            raise VocabularyError(f"the symbol at the blank index {self.blank} is not {BLANK!r}")
        index = {symbol: i for i, symbol in enumerate(self.symbols)}
        if len(index) != len(self.symbols):
            twice = [s for s, n in Counter(self.symbols).items() if n > 1]
            raise VocabularyError(f"symbols stand more than once in the vocabulary: {twice}")
        object.__setattr__(self, "_index", index)
        in_jamo = self.kind == "characters" and any(s in JAMO for s in self.symbols)
        object.__setattr__(self, "_in_jamo", in_jamo)
        object.__setattr__(self, "_longest", max(map(len, self.symbols)))

    @classmethod
    def characters(cls, alphabet: Iterable[str]) -> Vocabulary:
        """Blank, space, then the letters of `alphabet` in their order."""
        return cls((BLANK, " ", *alphabet))

    @classmethod
    def phones(cls, symbols: Iterable[str]) -> Vocabulary:
        return cls((BLANK, *symbols), kind="phones")

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str, unknown: Counter[str] | None = None) -> list[int]:
        """Class indices of `text`, without blanks.

        Symbols that the vocabulary lacks become `<unk>` if it has that. Otherwise they are counted
        in `unknown` and left out; without a counter they raise VocabularyError, so that nothing is
        ever dropped unseen.
        """
        substitute = self._index.get(UNKNOWN)
        indices = []
        for symbol in self._split(text):
            index = self._index.get(symbol, substitute)
            if index is not None and index != self.blank:
                indices.append(index)
            elif unknown is None:
                raise VocabularyError(
                    f"{symbol!r} in {text!r} is not in the vocabulary",
                    "normalise the text, or choose a vocabulary that has it",
                )
            else:
                unknown[symbol] += 1
        return indices

    def decode(self, indices: Sequence[int]) -> str:
        """Text of class indices that are already collapsed and free of blanks."""
        symbols = [self.symbols[i] for i in indices]
        if self.kind in ("phones", "words"):
            return " ".join(symbols)
        if self.kind == "pieces":
            return "".join(symbols).replace(WORD_START, " ").strip()
        return " ".join(self.join("".join(symbols)).split())

    def join(self, spelled: str) -> str:
        """What characters spell: conjoining jamo make syllables, all else is as it is.

        >>> Vocabulary.characters(["\u1112", "\u1161", "\u11ab"]).join("\u1112\u1161\u11ab")
        '한'
        """
        return compose(spelled) if self._in_jamo else spelled

    def _split(self, text: str) -> Iterable[str]:
        if self.kind == "characters":
            return decompose(text) if self._in_jamo else text
        if self.kind in ("phones", "words"):
            return text.split()
        return self._longest_pieces(WORD_START + text.replace(" ", WORD_START))

    def _longest_pieces(self, marked: str) -> Iterable[str]:
        """Greedy longest match: deterministic, needs no sentencepiece model at run time."""
        at = 0
        while at < len(marked):
            ends = range(min(len(marked), at + self._longest), at, -1)
            end = next((end for end in ends if marked[at:end] in self._index), at + 1)
            yield marked[at:end]
            at = end

    def to_json(self) -> str:
        data = {"kind": self.kind, "blank": self.blank, "symbols": list(self.symbols)}
        return json.dumps(data, ensure_ascii=False, indent=1)

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Raise VocabularyError if the file is not a vocabulary."""
        try:
            data = json.loads(read_text(path))
            symbols, kind, blank = tuple(data["symbols"]), data["kind"], data["blank"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VocabularyError(f"{path}: not a vocabulary ({error})") from error
        if kind not in KINDS or not all(isinstance(s, str) and s for s in symbols):
            raise VocabularyError(f"{path}: not a vocabulary (kind {kind!r})")
        if type(blank) is not int:
            raise VocabularyError(f"{path}: not a vocabulary (blank {blank!r})")
        return cls(symbols, kind, blank)

"""Transcripts as class indices: what each head of a network is trained to emit."""

from __future__ import annotations

import lzma
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from asr.errors import VocabularyError
from asr.text.normalize import normalize
from asr.text.vocabulary import Vocabulary

# text, optional counter of unknown symbols -> class indices, or None: no target for this text
Targets = Callable[..., "list[int] | None"]


class Spelling:
    """Characters or pieces of the normalised text.

    >>> Spelling(Vocabulary.characters("abc"))("A cab!")
    [2, 1, 4, 2, 3]
    """

    def __init__(self, vocabulary: Vocabulary, normalizer: Callable[[str], str] = normalize):
        self.vocabulary = vocabulary
        self._normalize = normalizer

    def __call__(self, text: str, unknown: Counter[str] | None = None) -> list[int]:
        return self.vocabulary.encode(self._normalize(text), unknown)


class Pronunciation:
    """Phones of the normalised text by a pronunciation dictionary, first pronunciation first.

    A text with a word that the dictionary lacks has no target (None): a network's other heads
    learn from it, this one does not.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        pronunciations: Mapping[str, str],
        normalizer: Callable[[str], str] = normalize,
    ):
        self.vocabulary = vocabulary
        self._pronunciations = pronunciations
        self._normalize = normalizer

    def __call__(self, text: str, unknown: Counter[str] | None = None) -> list[int] | None:
        phones = [self._pronunciations.get(word) for word in self._normalize(text).split()]
        if any(p is None for p in phones):
            return None
        return self.vocabulary.encode(" ".join(p for p in phones if p))


def read_pronunciations(path: str | Path) -> dict[str, str]:
    """First pronunciation of each word in a CMUdict-style file (plain or .xz), without stress.

    Lines are `word  PH ON ES`; alternatives `word(2)` and comments `;;;` or `#` are left out.
    """
    path = Path(path)
    opener = lzma.open if path.suffix == ".xz" else open
    pronunciations: dict[str, str] = {}
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                word, _, phones = line.split("#")[0].strip().partition(" ")
                if word and phones and not word.startswith(";;;") and not word.endswith(")"):
                    pronunciations.setdefault(word.lower(), re.sub(r"\d", "", phones.strip()))
    except (OSError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise VocabularyError(f"{path}: not a pronunciation dictionary ({error})") from error
    if not pronunciations:
        raise VocabularyError(f"{path}: holds no pronunciation")
    return pronunciations

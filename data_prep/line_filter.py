"""A line filter: no duplicates, and no sentences of development sets."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from enum import Enum
from hashlib import blake2b
from mmap import mmap
from pathlib import Path

from asr.text.normalize import normalize

# The shortest text that is left out: shorter ones, such as `thank you`, belong to nobody.
N_WORDS = 4
_NOT_COMPARED = re.compile(r"['\d]+")


class Decision(Enum):
    """What to do with a line."""

    NEW = "new"
    DUPLICATE = "duplicate"
    LEFT_OUT = "left out"


def compared(text: str) -> list[str]:
    """The words of a text as they are compared: by their letters alone.

    Numbers do not tell lines apart: thousands of towns have the same sentence with another figure.

    >>> compared("It’s 1,204 m high, in 2001.")
    ['its', 'm', 'high', 'in']
    """
    return _NOT_COMPARED.sub("", normalize(text)).split()


class Seen:
    """The lines so far, in 128 MiB however many they are: a Bloom filter (Bloom, 1970).

    A line that is new is taken for an old one with a probability below 1e-9 after a million lines,
    and of 2 % after 130 million; an old one is always known.
    """

    N_BITS = 1 << 30

    def __init__(self) -> None:
        self._bits = mmap(-1, self.N_BITS // 8)  # zeros, which take no memory until they change

    def add(self, line: str) -> bool:
        """Whether the line is new."""
        digest = blake2b(line.encode(), digest_size=16).digest()
        new = False
        for i in range(0, 16, 4):
            byte, bit = divmod(int.from_bytes(digest[i : i + 4]) % self.N_BITS, 8)
            new |= not self._bits[byte] >> bit & 1
            self._bits[byte] |= 1 << bit
        return new


class Excluded:
    """Texts of four words or more that may not occur, as a whole or in part.

    >>> excluded = Excluded(["The birch canoe slid on the planks."])
    >>> excluded.hit(compared("Once, the birch canoe slid on the planks of a boathouse."))
    True
    >>> excluded.hit(compared("The birch canoe slid!"))
    True
    >>> excluded.hit(compared("A birch canoe slid on the planks."))
    False
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._by_start: defaultdict[str, set[str]] = defaultdict(set)
        self._by_run: defaultdict[str, set[str]] = defaultdict(set)  # of each N_WORDS in a row
        for words in map(compared, texts):
            for i, run in enumerate(_runs(words)):
                self._by_run[run].add(_padded(words))
                if i == 0:
                    self._by_start[run].add(_padded(words))

    def hit(self, words: list[str]) -> bool:
        """Whether a line of these words holds one of the texts, or lies inside one."""
        line, runs = _padded(words), _runs(words)
        return any(line in text for run in runs[:1] for text in self._by_run.get(run, ())) or any(
            text in line for run in runs for text in self._by_start.get(run, ())
        )


def _runs(words: list[str]) -> list[str]:
    return [" ".join(words[i : i + N_WORDS]) for i in range(len(words) - N_WORDS + 1)]


def _padded(words: list[str]) -> str:
    """Spaces at both ends: words are found as wholes."""
    return " ".join(["", *words, ""])


class LineFilter:
    """Decides for line after line whether to keep it."""

    def __init__(self, without: Iterable[Path] = ()) -> None:
        """`without`: manifests whose texts are not wanted. Raises ManifestError."""
        self._seen = Seen()
        from asr.data.manifest import read_manifest  # which brings NumPy

        self._excluded = Excluded(u.text for path in without for u in read_manifest(path))

    def decide(self, line: str) -> Decision:
        words = compared(line)
        if not self._seen.add(" ".join(words)):
            return Decision.DUPLICATE
        return Decision.LEFT_OUT if self._excluded.hit(words) else Decision.NEW

    def leaves_out(self, line: str) -> bool:
        """Whether a development set contains this line; it counts as seen."""
        words = compared(line)
        self._seen.add(" ".join(words))
        return self._excluded.hit(words)

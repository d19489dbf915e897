"""The vocabulary of a language model: a sorted, front-coded list of words that stays on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

# The three words every model has, with the ids 0, 1 and 2.
UNKNOWN, START, END = "<unk>", "<s>", "</s>"
SPECIAL = (UNKNOWN, START, END)
UNKNOWN_ID, START_ID, END_ID = range(3)

_BLOCK = 16  # words that share one entry of the index
# Two lists in one: the frequent words have ids that fit into 16 bits. Both are sorted.
_FREQUENT_BLOCKS = (1 << 16) // _BLOCK - 1
_FREQUENT = _FREQUENT_BLOCKS * _BLOCK
_BIAS = 32  # keeps the byte of the shared length apart from the newline
_MAX_SHARED = 200


class WordList:
    """Words by id and ids by word, without a dictionary in memory.

    The three special words come first, then the 65,520 most frequent ones in the order of their
    UTF-8 bytes, then all others, likewise. A word is stored as the number of bytes it shares with
    its predecessor, and the rest; every 16th is stored whole, so that a look-up is a binary search
    over blocks.

    >>> words = WordList.build(["cat", "car", "dog"])
    >>> list(words)
    ['<unk>', '<s>', '</s>', 'car', 'cat', 'dog']
    >>> words.index("dog"), words.index("cow")
    (5, 0)
    """

    def __init__(self, text: np.ndarray, blocks: np.ndarray):
        """`text`: (bytes,) uint8; `blocks`: (blocks + 1,) uint32, where each block begins.

        Raises ValueError if the two do not fit together.
        """
        ends = np.flatnonzero(text == ord("\n")) + 1
        starts = np.concatenate([[0], ends[:-1]])[::_BLOCK] if len(ends) else ends
        if not np.array_equal(blocks, np.append(starts, len(text))) or (
            len(text) and ends[-1:] != len(text)
        ):
            raise ValueError("damaged word list")
        self.text = text
        self.blocks = blocks
        self._length = len(SPECIAL) + len(ends)

    @classmethod
    def build(cls, words: Iterable[str]) -> WordList:
        """From words in the order of their frequency, which only matters if they are many."""
        ranked = [word.encode() for word in dict.fromkeys(words) if word not in SPECIAL]
        text, blocks, previous = bytearray(), [], b""
        for i, word in enumerate(sorted(ranked[:_FREQUENT]) + sorted(ranked[_FREQUENT:])):
            if i % _BLOCK == 0:
                blocks.append(len(text))
                previous = b""
            shared = _shared_prefix(previous, word)
            text += bytes([_BIAS + shared]) + word[shared:] + b"\n"
            previous = word
        blocks.append(len(text))
        return cls(np.frombuffer(bytes(text), np.uint8), np.array(blocks, np.uint32))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[str]:
        yield from SPECIAL
        for block in range(len(self.blocks) - 1):
            yield from (word.decode(errors="replace") for word in self._decoded(block))

    def __getitem__(self, word_id: int) -> str:
        if not 0 <= word_id < len(self):
            raise IndexError(word_id)
        if word_id < len(SPECIAL):
            return SPECIAL[word_id]
        block, place = divmod(word_id - len(SPECIAL), _BLOCK)
        return self._decoded(block)[place].decode(errors="replace")

    def index(self, word: str) -> int:
        """Id of a word; 0, that of `<unk>`, if it is not in the list."""
        if word in SPECIAL:
            return SPECIAL.index(word)
        sought, blocks = word.encode(), len(self.blocks) - 1
        for begin, end in ((0, min(blocks, _FREQUENT_BLOCKS)), (_FREQUENT_BLOCKS, blocks)):
            if begin < end:
                block = self._block_of(sought, begin, end)
                words = self._decoded(block)
                if sought in words:
                    return len(SPECIAL) + block * _BLOCK + words.index(sought)
        return UNKNOWN_ID

    def _block_of(self, word: bytes, begin: int, end: int) -> int:
        """The last of some blocks that does not begin with a greater word."""
        while end - begin > 1:
            middle = (begin + end) // 2
            if self._decoded(middle, limit=1)[0] <= word:
                begin = middle
            else:
                end = middle
        return begin

    def _decoded(self, block: int, limit: int = _BLOCK) -> list[bytes]:
        raw = self.text[self.blocks[block] : self.blocks[block + 1]].tobytes()
        words, previous = [], b""
        for entry in raw.split(b"\n", limit)[:limit]:
            if entry:
                previous = previous[: entry[0] - _BIAS] + entry[1:]
                words.append(previous)
        return words


def _shared_prefix(a: bytes, b: bytes) -> int:
    length = min(len(a), len(b), _MAX_SHARED)
    return next((i for i in range(length) if a[i] != b[i]), length)

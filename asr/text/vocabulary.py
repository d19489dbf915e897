"""Vocabularies: the units a network emits with their way to text and back, and the words of a
language model as a sorted, front-coded list that stays on disk.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from asr.errors import MissingDependencyError, VocabularyError
from asr.files import read_text
from asr.text.jamo import JAMO, compose, decompose

BLANK = "<blank>"
WORD_START = "\u2581"  # sentencepiece's mark of a piece that begins a word


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

    def letters(self, text: str) -> str:
        """What a text is written with: jamo in place of syllables where the symbols are jamo."""
        return decompose(text) if self._in_jamo else text

    def _split(self, text: str) -> Iterable[str]:
        if self.kind == "characters":
            return self.letters(text)
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


def train_pieces(texts: Iterable[str], size: int) -> Vocabulary:
    """A vocabulary of `size` units, blank included, that spells `texts` in few pieces.

    `texts` are normalised, for what is learned is what is seen. Every character of them is a piece
    too, so none of them ever needs an unknown symbol. Pieces are learned by byte-pair encoding
    (Sennrich et al. 2016): with these, the greedy longest match of `Vocabulary.encode` needs no
    more pieces than sentencepiece's own encoder, so the vocabulary is all that is kept.

    Raises VocabularyError if `size` is too small for the characters or too large for the texts.
    """
    try:
        import sentencepiece
    except ImportError as error:
        raise MissingDependencyError(
            "sentencepiece is not installed", "pip install 'blstm-ctc-asr[data]'"
        ) from error
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            model_type="bpe",
            vocab_size=size,
            character_coverage=1.0,
            normalization_rule_name="identity",  # the texts are normalised by ourselves
            max_sentence_length=1 << 20,  # bytes; longer ones would be left out silently
            unk_id=0,  # takes the place of the blank
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise VocabularyError(
            f"no {size} pieces can be learned from these texts ({error})",
            "choose a size between the number of characters and that of frequent words",
        ) from error
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(i) for i in range(1, processor.get_piece_size())]
    return Vocabulary((BLANK, *pieces), kind="pieces")

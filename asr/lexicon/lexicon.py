"""The words a decoder may spell, as a prefix tree over characters or phones.

The tree is a handful of flat arrays in breadth-first order: the children of a node are neighbours,
sorted by label, so that a child is found by bisection and the whole tree is memory-mapped from its
file in milliseconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.errors import ASRError, DecodeError, VocabularyError
from asr.files import load_arrays, save_arrays
from asr.text.vocabulary import SPECIAL, WORD_START, Vocabulary, WordList

_STRESS = re.compile(r"\d$")


@dataclass(frozen=True)
class Lexicon:
    """Words and their spellings. Node 0 is the root; the children of a node follow one another.

    `labels`: what the arcs are called, characters or phones; `words`: the words by their ids.
    `first`: (nodes + 1,) int32, the children of n are first[n] .. first[n + 1] - 1;
    `label`: (nodes,) int32, the label of the arc that leads to a node;
    `word_first`: (nodes + 1,) int32 and `word`: (spellings,) int32, the words that end at a node.

    >>> lexicon = Lexicon.from_words(["cat", "car", "dog"], Vocabulary.characters("acdgort"))
    >>> len(lexicon.words) - len(SPECIAL), lexicon.nodes
    (3, 8)
    >>> "car" in lexicon, "cow" in lexicon
    (True, False)
    """

    labels: tuple[str, ...]
    words: WordList
    first: np.ndarray
    label: np.ndarray
    word_first: np.ndarray
    word: np.ndarray

    @property
    def nodes(self) -> int:
        return len(self.label)

    def __contains__(self, word: str) -> bool:
        return word in SPECIAL or self.words.index(word) != 0

    def spellings(self, word: str) -> list[list[int]]:
        """All spellings of a word, as labels; none if the lexicon lacks it."""
        word_id = self.words.index(word)
        if word_id < len(SPECIAL):
            return []
        entries = np.flatnonzero(self.word == word_id)
        found = []
        for node in np.searchsorted(self.word_first, entries, side="right") - 1:
            spelled = []
            while node > 0:
                spelled.append(int(self.label[node]))
                node = np.searchsorted(self.first, node, side="right") - 1
            found.append(spelled[::-1])
        return found

    def entries(self) -> list[tuple[str, list[int]]]:
        """All words with their spellings, as labels; a word as often as it has any."""
        parents = np.repeat(np.arange(self.nodes), np.diff(self.first))
        nodes = np.repeat(np.arange(self.nodes), np.diff(self.word_first))
        spelled: list[list[int]] = [[] for _ in nodes]
        rows = np.arange(len(nodes))
        while len(rows := rows[nodes[rows] > 0]):
            for row, label in zip(rows.tolist(), self.label[nodes[rows]].tolist(), strict=True):
                spelled[row].append(label)
            nodes[rows] = parents[nodes[rows] - 1]
        words = list(self.words)
        return [(words[i], s[::-1]) for i, s in zip(self.word.tolist(), spelled, strict=True)]

    def extended(self, spellings: Mapping[str, Sequence[Sequence[int]]]) -> Lexicon:
        """A lexicon of these words as well, spelled with the same labels."""
        entries = self.entries() + [(word, list(s)) for word, own in spellings.items() for s in own]
        words = WordList.build(dict.fromkeys([*self.words, *spellings]))
        ids = {word: i for i, word in enumerate(words)}
        return self._build(
            self.labels, words, [s for _, s in entries], [ids[word] for word, _ in entries]
        )

    def restricted(self, words: WordList) -> Lexicon:
        """Of this lexicon what `words` has, with the ids that it has there.

        So a lexicon and a language model come to one vocabulary. Raise DecodeError where no word is
        common to the two.
        """
        ids = {word: i for i, word in enumerate(words) if i >= len(SPECIAL)}
        kept = [(spelled, ids[word]) for word, spelled in self.entries() if word in ids]
        if not kept:
            raise DecodeError(
                "the language model knows no word of the lexicon",
                "use a language model and a lexicon made with the same text normalisation",
            )
        spellings, own = zip(*kept, strict=True)
        return self._build(self.labels, words, spellings, own)

    def subset(self, words: WordList, spellings: Mapping[str, Sequence[Sequence[int]]]) -> Lexicon:
        """A few words, spelled as `spellings` says, or as this lexicon does.

        Faster than `restricted` where `words` are few.
        """
        entries = [
            (spelled, i)
            for i, word in enumerate(words)
            if i >= len(SPECIAL)
            for spelled in spellings.get(word) or self.spellings(word)
        ]
        return self._build(self.labels, words, [s for s, _ in entries], [i for _, i in entries])

    @classmethod
    def from_words(cls, words: Iterable[str] | WordList, vocabulary: Vocabulary) -> Lexicon:
        """Words as the characters of `vocabulary` spell them, or as its pieces do in any division.

        Words with a character that the vocabulary lacks are left out, and Korean syllables spelled
        as jamo if those are its symbols. Raise DecodeError if that is
        more than half of them: then the list was made for another vocabulary.
        """
        word_list = words if isinstance(words, WordList) else WordList.build(words)
        labels = unit_labels(vocabulary)
        index = {label: i for i, label in enumerate(labels)}
        spellings, ids, foreign = [], [], []
        for i, word in enumerate(word_list):
            if i < len(SPECIAL):
                continue
            try:
                spellings.append([index[letter] for letter in vocabulary.letters(word)])
                ids.append(i)
            except KeyError:
                foreign.append(word)
        if len(foreign) > len(spellings):
            raise DecodeError(
                f"the vocabulary cannot spell {len(foreign)} of {len(word_list) - len(SPECIAL)}"
                f" words, {foreign[0]!r} for one",
                "use a word list or language model made with the same text normalisation",
            )
        return cls._build(labels, word_list, spellings, ids)

    @classmethod
    def from_pronunciations(
        cls,
        pronunciations: Mapping[str, Sequence[Sequence[str]]],
        vocabulary: Vocabulary,
        words: Iterable[str] | WordList | None = None,
    ) -> Lexicon:
        """Words as the phones of `vocabulary` pronounce them: see `asr.text.phones.read_lexicon`.

        Stress marks and letter case are ignored where the vocabulary has none. `words` limits the
        lexicon, to those of a language model for one. Raise DecodeError where nothing remains.
        """
        wanted = set(pronunciations if words is None else pronunciations.keys() & set(words))
        word_list = words if isinstance(words, WordList) else WordList.build(wanted)
        labels = unit_labels(vocabulary)
        index = {label: i for i, label in enumerate(labels)} | {
            label.lower(): i for i, label in enumerate(labels)
        }
        spellings, ids = [], []
        foreign: Counter[str] = Counter()
        for word in sorted(wanted):
            for pronunciation in pronunciations[word]:
                spelled = [_phone(phone, index) for phone in pronunciation]
                known = [label for label in spelled if label is not None]
                if len(known) == len(spelled):
                    spellings.append(known)
                    ids.append(word_list.index(word))
                pairs = zip(pronunciation, spelled, strict=True)
                foreign.update(phone for phone, label in pairs if label is None)
        if not spellings:
            unknown = f"; it lacks the phones {sorted(foreign)[:5]}" if foreign else ""
            raise DecodeError(
                f"no pronunciation can be spelled with this vocabulary{unknown}",
                "use a pronunciation dictionary of the same phone set",
            )
        return cls._build(labels, word_list, spellings, ids)

    @classmethod
    def _build(
        cls,
        labels: tuple[str, ...],
        words: WordList,
        spellings: Sequence[Sequence[int]],
        ids: Sequence[int],
    ) -> Lexicon:
        """One level of the tree after the other; a level is where sorted spellings first differ."""
        lengths = np.array([len(s) for s in spellings])
        if not len(lengths) or not lengths.all():
            raise VocabularyError("a lexicon needs words, and every word at least one unit")
        # Labels from 1, so that 0 is "no more", in the byte order in which NumPy sorts strings.
        table = np.zeros((len(spellings), lengths.max()), ">u2")
        table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(spellings) + 1
        order = np.argsort(table.view(f"S{2 * table.shape[1]}").ravel(), kind="stable")
        table, lengths, word_ids = (
            table[order].astype(np.int32),
            lengths[order],
            np.array(ids)[order],
        )

        node_of = np.zeros(len(table), np.int32)  # the node that each spelling has come to
        fresh = np.zeros(len(table), bool)  # it differs here or before from its predecessor
        fresh[0] = True
        label, parent = [np.array([-1])], [np.array([-1])]
        count = 1
        for depth in range(table.shape[1]):
            symbols = table[:, depth]
            fresh[1:] |= symbols[1:] != symbols[:-1]
            alive = lengths > depth
            begins = fresh & alive
            label.append(symbols[begins] - 1)
            parent.append(node_of[begins])
            node_of[alive] = count + np.cumsum(begins[alive]) - 1
            count += int(begins.sum())
        children = np.bincount(np.concatenate(parent)[1:], minlength=count)
        by_node = np.argsort(node_of, kind="stable")
        endings = np.bincount(node_of, minlength=count)
        return cls(
            labels,
            words,
            first=np.append(1, 1 + np.cumsum(children)).astype(np.int32),
            label=np.concatenate(label).astype(np.int32),
            word_first=np.append(0, np.cumsum(endings)).astype(np.int32),
            word=word_ids[by_node].astype(np.int32),
        )

    def best_below(self, value: np.ndarray) -> np.ndarray:
        """(nodes,): the greatest of `value` (by word id) of the words at a node or below it.

        The look-ahead of a language model; -inf never occurs, for every leaf is a word.
        """
        best = np.full(self.nodes, -np.inf, np.float32)
        at = np.repeat(np.arange(self.nodes), np.diff(self.word_first))
        np.maximum.at(best, at, value[self.word])
        parents = np.repeat(np.arange(self.nodes), np.diff(self.first))  # of node 1, 2, ...
        begin = self.nodes
        while begin > 1:  # from the end in runs that hold no node together with its parent
            end, begin = begin, int(parents[begin - 2]) + 1
            np.maximum.at(best, parents[begin - 1 : end - 1], best[begin:end])
        return best

    def save(self, path: str | Path) -> None:
        arrays = {
            "first": self.first,
            "label": self.label,
            "word_first": self.word_first,
            "word": self.word,
            "text": self.words.text,
            "blocks": self.words.blocks,
        }
        save_arrays(path, arrays, {"kind": "lexicon", "labels": list(self.labels)})

    @classmethod
    def load(cls, path: str | Path) -> Lexicon:
        """Raise DecodeError if the file is not a lexicon, or a damaged one."""
        try:
            arrays, metadata = load_arrays(path)
        except ASRError as error:
            raise DecodeError(error.cause, error.remedy) from error
        try:
            if metadata["kind"] != "lexicon":
                raise ValueError(f"a file of kind {metadata['kind']!r}")
            words = WordList(arrays.pop("text"), arrays.pop("blocks"))
            lexicon = cls(tuple(metadata["labels"]), words, **arrays)
            lexicon._check()
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"{path}: not a lexicon ({error})", "make it again") from error
        return lexicon

    def _check(self) -> None:
        """The compiled search trusts these arrays: an index out of range would crash it."""
        for array in (self.first, self.label, self.word_first, self.word):
            if array.dtype != np.int32 or array.ndim != 1:
                raise ValueError(f"an array of {array.dtype} {array.shape}")
        if not all(isinstance(label, str) and label for label in self.labels):
            raise ValueError("labels that are no text")
        for begins, count in ((self.first, self.nodes), (self.word_first, len(self.word))):
            if len(begins) != self.nodes + 1 or begins[-1] != count or np.any(np.diff(begins) < 0):
                raise ValueError("damaged tree")
        if self.first[0] != 1 or np.any(self.first[:-1] <= np.arange(self.nodes)):
            raise ValueError("damaged tree")
        for values, limit in ((self.label[1:], len(self.labels)), (self.word, len(self.words))):
            if np.any(values < 0) or np.any(values >= limit):
                raise ValueError("damaged tree")


def _phone(phone: str, index: Mapping[str, int]) -> int | None:
    for form in (phone, _STRESS.sub("", phone)):
        for variant in (form, form.lower()):
            if variant in index:
                return index[variant]
    return None


def unit_labels(vocabulary: Vocabulary) -> tuple[str, ...]:
    """What words are spelled with: the phones, or the characters that the symbols are made of."""
    symbols = [s for i, s in enumerate(vocabulary.symbols) if i != vocabulary.blank]
    if vocabulary.kind == "phones":
        return tuple(symbols)
    return tuple(sorted(set("".join(symbols)) - {" ", WORD_START}))

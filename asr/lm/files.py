"""Language models by file name: `.arpa`, `.arpa.gz`, or the compact binary by any other."""

from __future__ import annotations

import gzip
import io
import math
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, TextIO

import numpy as np

from asr.errors import LanguageModelError
from asr.files import MAGIC, UNREADABLE, bounded_lines, open_binary, replacing
from asr.lm.backoff import BackoffModel
from asr.lm.ngram import NGram
from asr.text.vocabulary import END, SPECIAL, START, UNKNOWN, WordList


def load_model(path: str | Path) -> BackoffModel:
    """Read a model to work on, from an ARPA file or the binary, whichever it is.

    Raises LanguageModelError if it is neither.
    """
    return expand(NGram.load(path)).rescaled() if _is_binary(path) else read_arpa(path)


def load_ngram(path: str | Path) -> NGram:
    """Read a model to ask, from the binary (mapped) or an ARPA file (compiled)."""
    return NGram.load(path) if _is_binary(path) else NGram.compile(read_arpa(path))


def save_model(path: str | Path, model: BackoffModel) -> None:
    """Write the format that the name asks for."""
    if Path(path).name.endswith((".arpa", ".arpa.gz")):
        write_arpa(path, model)
    else:
        NGram.compile(model).save(path)


def expand(ngram: NGram) -> BackoffModel:
    """The model that a binary was compiled from, but for the rounding of its weights."""
    tables, vocabulary_size = ngram.tables, len(ngram.words)
    weights = tables.probability_codebook[tables.probability]
    leaf_weights = tables.probability_codebook[tables.leaf_probability]
    backoffs = tables.backoff_codebook[tables.backoff]
    node_parents, leaf_parents = _parents(tables.children, first=1), _parents(tables.leaves)

    numbers = np.zeros(len(tables.word), np.int64)  # of the binary's nodes among all n-grams
    levels = [np.zeros((4, 1))]
    begin, end, total = 0, 1, 1  # nodes of one order: what continues them makes up the next one
    while begin < end:
        nodes = slice(tables.children[begin], tables.children[end])
        leaves = slice(tables.leaves[begin], tables.leaves[end])
        parent = numbers[np.concatenate([node_parents[nodes], leaf_parents[leaves]])]
        word = np.concatenate([tables.word[nodes], tables.leaf_word[leaves]]).astype(np.int64)
        weight = np.concatenate([weights[nodes], leaf_weights[leaves]])
        backoff = np.concatenate([backoffs[nodes], np.zeros(leaves.stop - leaves.start)])
        order = np.argsort(parent * vocabulary_size + word)
        numbers[nodes] = total + np.argsort(order)[: nodes.stop - nodes.start]
        levels.append(np.stack([parent, word, weight, backoff])[:, order])
        begin, end, total = nodes.start, nodes.stop, total + len(order)
    parent, word, weight, backoff = np.concatenate(levels, axis=1)
    return BackoffModel(
        ngram.words,
        parent.astype(np.int32),
        word.astype(np.int32),
        weight.astype(np.float32),
        backoff.astype(np.float32),
        metadata=ngram.metadata,
    )


def _parents(offsets: np.ndarray, first: int = 0) -> np.ndarray:
    """The node that each child belongs to, given where the children of every node begin."""
    parents = np.repeat(np.arange(len(offsets) - 1), offsets[1:] - offsets[:-1])
    return np.concatenate([np.zeros(first, np.int64), parents])


def _is_binary(path: str | Path) -> bool:
    try:
        with open_binary(path) as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot be read: {error.strerror or error}") from error


MAX_ORDER = 16
_TOGETHER = 1 << 14  # n-grams written at a time
_MAX_LINE = 1 << 20  # characters
_MAX_DIGITS = 18  # of a count
_MAX_BACKOFF = 20.0  # log10: no estimate comes near it, and greater factors would overflow
_ROUNDING = 1e-5  # log10: some toolkits write a probability of 1 so far above it
_LN10 = math.log(10.0)
_ZERO = -99.0  # by convention the log10 probability of what cannot occur


def read_arpa(path: str | Path) -> BackoffModel:
    """Read an ARPA file, plain or .gz, with a byte-order mark or without.

    A missing `<unk>` is added with probability 10^-99. Raises LanguageModelError, naming file and
    line, for a file that breaks off, lies about its counts, has weights that are not numbers,
    probabilities above 1, n-grams twice, or n-grams whose beginning or words it lacks.
    """
    path = Path(path)
    try:
        with open_binary(path) as packed, _unpacked(packed, path.suffix) as file:
            return _Reader(path, file).read()
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise LanguageModelError(f"{path}: cannot be read: {error}") from error


def write_arpa(path: str | Path, model: BackoffModel) -> None:
    """Write to a temporary name, compressed if `path` ends in .gz, then rename."""
    with replacing(path) as temporary, _created(temporary, Path(path).suffix) as file:
        file.write("\\data\\\n")
        file.writelines(f"ngram {n}={count}\n" for n, count in enumerate(model.counts, start=1))
        words = list(model.words)
        for order in range(1, model.order + 1):
            file.write(f"\n\\{order}-grams:\n")
            file.writelines(_lines(model, order, words))
        file.write("\n\\end\\\n")


def _lines(model: BackoffModel, order: int, words: list[str]) -> Iterator[str]:
    level = model.level(order)
    log_probs = _in_log10(model.log_prob, level)
    backoffs = _in_log10(model.backoff, level)
    for ids, log_prob, backoff in zip(model.ngrams(order), log_probs, backoffs, strict=True):
        ngram = " ".join([words[i] for i in ids])
        weight = f"\t{backoff:.7g}" if order < model.order else ""
        yield f"{log_prob:.7g}\t{ngram}{weight}\n"


def _in_log10(weights: np.ndarray, level: slice) -> Iterator[float]:
    """A few at a time: as objects of Python they take eight times the memory."""
    for begin in range(level.start, level.stop, _TOGETHER):
        part = weights[begin : min(begin + _TOGETHER, level.stop)]
        yield from (part / _LN10).tolist()


def _unpacked(packed: BinaryIO, suffix: str) -> TextIO:
    raw = gzip.GzipFile(fileobj=packed) if suffix == ".gz" else packed
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n")


@contextmanager
def _created(path: Path, suffix: str) -> Iterator[IO[str]]:
    opener = gzip.open if suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8", newline="\n") as file:
        yield file


class _Reader:
    def __init__(self, path: Path, file: IO[str]):
        self.path = path
        self.lines = enumerate(bounded_lines(file, _MAX_LINE), start=1)
        self.number = 0

    def fail(self, cause: str) -> LanguageModelError:
        return LanguageModelError(f"{self.path}:{self.number}: {cause}", "is it an ARPA file?")

    def line(self) -> str:
        """The next line that is not empty."""
        try:
            for number, line in self.lines:
                self.number = number
                if line := line.strip():
                    return line
        except UnicodeDecodeError:
            raise
        except ValueError as error:  # a line without an end
            self.number += 1
            raise self.fail(str(error)) from error
        raise self.fail("the file ends too early")

    def read(self) -> BackoffModel:
        counts = self._header()
        names, log_probs, backoffs = self._unigrams(counts[0])
        words = WordList.build(names)
        ids = {word: i for i, word in enumerate(words)}
        order = np.array([ids[name] for name in names])
        columns = {"parent": [np.zeros(1 + len(words), np.int32)]}
        columns["word"] = [np.arange(-1, len(words), dtype=np.int32).clip(0)]
        columns["log_prob"] = [np.insert(_scattered(order, log_probs), 0, 0)]
        columns["backoff"] = [np.insert(_scattered(order, backoffs), 0, 0)]
        model = _model(words, columns)
        for n in range(2, len(counts) + 1):
            self._section(n, counts[n - 1], ids, columns, model)
            model = _model(words, columns)
        if self.line() != "\\end\\":
            raise self.fail("\\end\\ expected")
        return model

    def _header(self) -> list[int]:
        while self.line() != "\\data\\":
            if self.number > 1000:
                raise self.fail("no \\data\\ in sight")
        counts: list[int] = []
        while (line := self.line()).startswith("ngram"):
            name, _, count = line.removeprefix("ngram").partition("=")
            count = count.strip()
            if not (count.isascii() and count.isdigit()) or name.strip() != str(len(counts) + 1):
                raise self.fail(f"'ngram {len(counts) + 1}=COUNT' expected, not {line[:80]!r}")
            if len(count) > _MAX_DIGITS:
                raise self.fail(f"{count[:40]} n-grams are more than this program can count")
            counts.append(int(count))
        if not 1 <= len(counts) <= MAX_ORDER:
            raise self.fail(f"order {len(counts)}, not 1 to {MAX_ORDER}")
        if line != "\\1-grams:":
            raise self.fail(f"\\1-grams: expected, not {line[:80]!r}")
        return counts

    def _unigrams(self, count: int) -> tuple[list[str], array, array]:
        names: list[str] = []
        log_probs, backoffs = array("f"), array("f")
        for fields in self._rows(1, count):
            names.append(_special(fields[1]))
            log_probs.append(self._log_prob(fields[0]))
            backoffs.append(self._weight(fields[2]) if len(fields) == 3 else 0.0)
        if len(set(names)) != len(names):
            raise self.fail("a word stands twice among the 1-grams")
        for word in SPECIAL:
            if word in names:
                continue
            if word != UNKNOWN:
                raise self.fail(f"the word {word} is missing")
            names.append(word)
            log_probs.append(_ZERO * _LN10)
            backoffs.append(0.0)
        return names, log_probs, backoffs

    def _section(self, n, count, ids, columns, model) -> None:
        if (line := self.line()) != f"\\{n}-grams:":
            raise self.fail(f"\\{n}-grams: expected, not {line[:80]!r}")
        words, log_probs, backoffs = array("i"), array("f"), array("f")
        first = self.number
        try:
            for fields in self._rows(n, count):
                words.extend([ids[word] for word in fields[1 : n + 1]])
                log_probs.append(self._log_prob(fields[0]))
                backoffs.append(self._weight(fields[n + 1]) if len(fields) == n + 2 else 0.0)
        except KeyError as error:
            word = _special(str(error.args[0]))
            raise self.fail(f"the word {word!r} is not among the 1-grams") from error
        rows = np.array(words, np.int32).reshape(-1, n)
        parents = np.zeros(len(rows), np.int32)
        for column in range(n - 1):
            parents = model.child(parents, rows[:, column])
            if len(parents) and not parents.all():
                line_number = first + 1 + int(np.argmin(parents))
                raise LanguageModelError(
                    f"{self.path}: the {n}-gram near line {line_number} continues one that the"
                    " file lacks"
                )
        keys = parents.astype(np.int64) * len(ids) + rows[:, -1]
        order = np.argsort(keys)
        if (np.diff(keys[order]) == 0).any():
            raise self.fail(f"{n}-grams stand in the file twice")
        columns["parent"].append(parents[order].astype(np.int32))
        columns["word"].append(rows[order, -1])
        columns["log_prob"].append(np.array(log_probs, np.float32)[order])
        columns["backoff"].append(np.array(backoffs, np.float32)[order])

    def _rows(self, n: int, count: int) -> Iterator[list[str]]:
        """The fields of `count` lines: log10 probability, n words, perhaps a back-off weight."""
        for _ in range(count):
            fields = self.line().split()
            if len(fields) not in (n + 1, n + 2):
                raise self.fail(f"a {n}-gram and its weights expected, not {fields[:8]}")
            yield fields

    def _log_prob(self, field: str) -> float:
        """Natural logarithm of a log10 probability."""
        value = self._weight(field)
        if value > _ROUNDING * _LN10:
            raise self.fail(f"a probability above 1: 10^{field[:80]}")
        return min(value, 0.0)

    def _weight(self, field: str) -> float:
        try:
            value = float(field)
        except ValueError as error:
            raise self.fail(f"not a number: {field[:80]!r}") from error
        if math.isnan(value) or value > _MAX_BACKOFF:
            raise self.fail(f"not a weight: {field[:80]}")
        return max(value, _ZERO) * _LN10


def _special(word: str) -> str:
    """Toolkits differ in the case of the special words."""
    return word.lower() if word.lower() in (UNKNOWN, START, END) else word


def _scattered(places: np.ndarray, values: array) -> np.ndarray:
    result = np.zeros(len(places), np.float32)
    result[places] = values
    return result


def _model(words: WordList, columns: dict[str, list[np.ndarray]]) -> BackoffModel:
    parent, word, log_prob, backoff = map(np.concatenate, columns.values())
    return BackoffModel(words, parent, word, log_prob, backoff)

"""A trained recurrent language model, run by ONNX Runtime: scores, perplexity, and text written.

The model is one file: the graph, its weights, and the vocabulary (`asr lm export` writes it).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.acoustics import open_session
from asr.errors import BundleError, LanguageModelError, VocabularyError
from asr.text.vocabulary import UNKNOWN, WORD_START, Vocabulary

FORMAT = "asr-recurrent-lm-1"
BOUNDARY = 0  # begins and ends every sentence
_MAX_OUTPUTS = 1 << 24  # log-probabilities of one call: 64 MB
Floats = NDArray[np.float32]


class RecurrentLM:
    """Log-probabilities of texts, whole or symbol by symbol. All logarithms are natural.

    As a scorer of N-best lists it is called with texts. Texts are normalised: nothing is done to
    them here. What the vocabulary cannot spell is scored as `<unk>`, if it has that.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int = 1):
        """Raises LanguageModelError for a file that is no such model."""
        problem, remedy = "not a recurrent language model", "make one with `asr lm export`"
        self._session = open_session(
            path, problem, remedy=remedy, error=LanguageModelError, threads=threads
        )
        stored = self._session.get_modelmeta().custom_metadata_map
        if stored.get("format") != FORMAT:
            raise LanguageModelError(f"{path}: {problem}", remedy)
        try:
            self.vocabulary = _vocabulary(stored)
        except (VocabularyError, ValueError, KeyError, TypeError) as error:
            raise LanguageModelError(f"{path}: damaged: {error}", "export it again") from error
        shapes = {value.name: value.shape for value in self._session.get_inputs()}
        try:
            self.state_size = int(shapes["state"][1])
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise LanguageModelError(
                f"{path}: damaged: its inputs are {', '.join(shapes)}", "export it again"
            ) from error
        symbols = self.vocabulary.symbols
        self._unknown = symbols.index(UNKNOWN) if UNKNOWN in symbols else -1

    def start(self, batch: int = 1) -> Floats:
        """The state (batch, state_size) before a sentence."""
        return np.zeros((batch, self.state_size), np.float32)

    def step(self, tokens: Sequence[int] | np.ndarray, state: Floats) -> tuple[Floats, Floats]:
        """One symbol for each of B texts and their states (B, state_size): what is next.

        A text begins with the boundary, class 0. Returns log-probabilities (B, classes), where
        class 0 is the end, and the states after.
        """
        log_probs, state = self._run(np.asarray(tokens, np.int64)[:, None], state)
        return log_probs[:, 0], state

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """ln p of each text, its end included. What several begin with is gone through once."""
        sequences = [[BOUNDARY, *self.vocabulary.encode(text), BOUNDARY] for text in texts]
        totals, nodes, state = np.zeros(len(texts)), [0] * len(texts), self.start()
        going, place = list(range(len(texts))), 0
        while going:
            branches: dict[tuple[int, int], int] = {}  # a branch before and a symbol -> a branch
            for i in going:
                nodes[i] = branches.setdefault((nodes[i], sequences[i][place]), len(branches))
            before, symbols = zip(*branches, strict=True)
            log_probs, state = self.step(symbols, state[list(before)])
            place += 1
            for i in going:
                totals[i] += log_probs[nodes[i], sequences[i][place]]
            going = [i for i in going if place + 1 < len(sequences[i])]
        return totals.tolist()

    def score(self, words: Sequence[str]) -> Floats:
        """ln p of each word, and of the sentence's end: (words + 1,), as `NGram.score`."""
        return next(self._score_group([words]))

    def scores(self, sentences: Iterable[Sequence[str]], batch: int = 64) -> Iterator[Floats]:
        """`score` for many sentences, some at a time."""
        group: list[Sequence[str]] = []
        for words in sentences:
            group.append(words)
            if len(group) == batch:
                yield from self._score_group(group)
                group = []
        yield from self._score_group(group)

    def knows(self, word: str) -> bool:
        """Whether the model can spell a word."""
        return self._unknown < 0 or self._unknown not in self.vocabulary.encode(word)

    def sample(
        self,
        prompt: str = "",
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        most: int = 200,
    ) -> str:
        """A sentence that continues `prompt` by at most `most` symbols.

        `temperature` divides the logits: 1 is the model's own distribution, near 0 only the most
        probable symbol is taken. Raises LanguageModelError for a temperature that is not positive.
        """
        if not temperature > 0:
            raise LanguageModelError(f"a temperature of {temperature}", "give a positive number")
        rng = np.random.default_rng(seed)
        written = self.vocabulary.encode(prompt)
        log_probs, state = self._run(np.array([[BOUNDARY, *written]]), self.start())
        for _ in range(most):
            logits = log_probs[0, -1].astype(np.float64) / temperature
            if self._unknown >= 0:
                logits[self._unknown] = -np.inf
            probabilities = np.exp(logits - logits.max())
            token = int(rng.choice(len(probabilities), p=probabilities / probabilities.sum()))
            if token == BOUNDARY:
                break
            written.append(token)
            log_probs, state = self._run(np.array([[token]]), state)
        return self.vocabulary.decode(written)

    def _score_group(self, group: list[Sequence[str]]) -> Iterator[Floats]:
        texts = [" ".join(words) for words in group]
        for words, text, scores in zip(group, texts, self._score_texts(texts), strict=True):
            by_word = np.zeros(len(words) + 1, np.float32)
            places = np.append(self._word_of(self.vocabulary.encode(text)), len(words))
            np.add.at(by_word, places, scores)
            yield by_word

    def _score_texts(self, texts: Sequence[str]) -> list[Floats]:
        """ln p of each symbol of each text, and of its end."""
        sequences = [self.vocabulary.encode(text) for text in texts]
        results: list[Floats] = [np.zeros(0, np.float32)] * len(texts)
        for chosen in self._batches([len(s) + 1 for s in sequences]):
            longest = max(len(sequences[i]) for i in chosen) + 1
            tokens = np.zeros((len(chosen), longest), np.int64)
            for row, i in enumerate(chosen):
                tokens[row, 1 : len(sequences[i]) + 1] = sequences[i]
            log_probs, _ = self._run(tokens, self.start(len(chosen)))
            for row, i in enumerate(chosen):
                following = [*sequences[i], BOUNDARY]
                results[i] = log_probs[row, np.arange(len(following)), following]
        return results

    def _batches(self, lengths: list[int]) -> Iterator[list[int]]:
        """Indices of texts of similar length, few enough for bounded memory."""
        chosen: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
            if chosen and lengths[i] * (len(chosen) + 1) * len(self.vocabulary) > _MAX_OUTPUTS:
                yield chosen
                chosen = []
            chosen.append(i)
        if chosen:
            yield chosen

    def _run(self, tokens: np.ndarray, state: Floats) -> tuple[Floats, Floats]:
        log_probs, after = self._session.run(
            ["log_probs", "next_state"], {"tokens": tokens, "state": state}
        )
        return log_probs, after

    def _word_of(self, tokens: Sequence[int]) -> NDArray[np.int64]:
        """To which word each symbol belongs; a space to the word before it."""
        symbols = [self.vocabulary.symbols[token] for token in tokens]
        if self.vocabulary.kind == "characters":
            return np.cumsum([0, *(s == " " for s in symbols[:-1])], dtype=np.int64)[: len(symbols)]
        if self.vocabulary.kind == "pieces":
            return np.cumsum([s.startswith(WORD_START) for s in symbols], dtype=np.int64) - 1
        return np.arange(len(symbols))


def metadata(vocabulary: Vocabulary) -> dict[str, str]:
    """What a model's file says about itself."""
    symbols = json.dumps(vocabulary.symbols, ensure_ascii=False)
    return {"format": FORMAT, "kind": vocabulary.kind, "symbols": symbols}


def is_recurrent(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix == ".onnx"


def _vocabulary(stored: dict[str, str]) -> Vocabulary:
    symbols = json.loads(stored["symbols"])
    return Vocabulary(tuple(symbols), stored["kind"])  # type: ignore[arg-type]


class SameUnits:
    """A recurrent language model over the units of a network, which are its first classes.

    Raises BundleError if it predicts other units.
    """

    def __init__(self, lm: RecurrentLM, vocabulary: Vocabulary):
        self._lm, self._classes = lm, len(vocabulary)
        self.start = lm.start
        if lm.vocabulary.symbols[: self._classes] != vocabulary.symbols:
            raise BundleError(
                "the recurrent language model predicts other units than the network",
                "train it on the network's units, or export without it",
            )

    def step(self, tokens: np.ndarray, state: Floats) -> tuple[Floats, Floats]:
        log_probs, state = self._lm.step(tokens, state)
        return log_probs[:, : self._classes], state

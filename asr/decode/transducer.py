"""Greedy and beam search for transducers (Graves 2012), over anything that computes their steps.

A transducer reads the encoder's rows one after the other. At each it may emit any number of symbols
and then a blank, which takes it to the next row; what it emits depends on the symbols so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

BLANK = 0
Floats = NDArray[np.float32]


class TransducerSteps(Protocol):
    """The parts of a transducer that a search calls again and again."""

    def start(self) -> Floats:
        """The prediction network's state (1, state_size) before anything was said."""
        ...

    def predict(self, symbols: np.ndarray, states: Floats) -> tuple[Floats, Floats]:
        """N last symbols and the states before them (N, S) -> N rows (N, J), states after."""
        ...

    def join(self, encoded: Floats, predicted: Floats) -> Floats:
        """A row of the encoder (J,) and N predicted ones -> log-probabilities (N, classes)."""
        ...


class StepwiseLM(Protocol):
    """A language model over the same classes, as `asr.lm.recurrent.RecurrentLM`."""

    def start(self, batch: int = 1) -> Floats: ...

    def step(self, tokens: np.ndarray, state: Floats) -> tuple[Floats, Floats]: ...


@dataclass(frozen=True)
class Emitted:
    """A result: symbols, the rows at which they were emitted, and their probabilities.

    score: ln of the probability of all ways to emit the symbols that the search has followed,
    language model included as far as there is one; `lm_score`: ln p of the language model, as it
    is.
    """

    symbols: tuple[int, ...]
    rows: tuple[int, ...]
    log_probs: tuple[float, ...]
    score: float
    lm_score: float = 0.0


class _Prefix(NamedTuple):
    """What the networks say after some symbols."""

    predicted: Floats  # (J,)
    state: Floats  # (S,)
    lm_log_probs: Floats  # (classes,), empty without a language model
    lm_state: Floats
    lm_score: float


@dataclass
class _Hypothesis:
    log_prob: float
    rows: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    best: float = -math.inf  # the log-probability of the way that rows and log_probs tell


def greedy(steps: TransducerSteps, encoded: Floats, max_symbols: int = 10) -> Emitted:
    """The most probable symbol at every step; at most `max_symbols` at each of the rows (T, J)."""
    predicted, state = steps.predict(np.array([BLANK]), steps.start())
    symbols: list[int] = []
    rows: list[int] = []
    log_probs: list[float] = []
    score = 0.0
    for t, row in enumerate(encoded):
        for emitted in range(max_symbols + 1):
            found = steps.join(row, predicted)[0]
            symbol = BLANK if emitted == max_symbols else int(found.argmax())
            score += float(found[symbol])
            if symbol == BLANK:
                break
            symbols.append(symbol)
            rows.append(t)
            log_probs.append(float(found[symbol]))
            predicted, state = steps.predict(np.array([symbol]), state)
    return Emitted(tuple(symbols), tuple(rows), tuple(log_probs), score)


def beam_search(
    steps: TransducerSteps,
    encoded: Floats,
    *,
    beam: int = 10,
    max_symbols: int = 5,
    nbest: int = 1,
    lm: StepwiseLM | None = None,
    lm_weight: float = 0.0,
    symbol_bonus: float = 0.0,
) -> list[Emitted]:
    """The most probable symbol sequences for the rows (T, J), best first.

    At every row all ways to emit up to `max_symbols` symbols are followed, `beam` prefixes of each
    number of them, and ways to the same prefix are added up (time-synchronous decoding, Saon et al.
    2020): with a beam that drops nothing the scores are exact sums over all alignments.

    lm: adds `lm_weight` times its log-probability to every symbol (shallow fusion), and
    `symbol_bonus`; the end of the text is not asked for, since a transducer has none.
    """
    search = _Search(steps, lm)
    current: dict[tuple[int, ...], _Hypothesis] = {(): _Hypothesis(0.0, best=0.0)}
    for t, row in enumerate(encoded):
        finished: dict[tuple[int, ...], _Hypothesis] = {}
        level = current
        for emitted in range(max_symbols + 1):
            prefixes = list(level)
            search.look_up(prefixes)
            found = steps.join(row, np.stack([search.known[p].predicted for p in prefixes]))
            following: dict[tuple[int, ...], _Hypothesis] = {}
            for prefix, log_probs in zip(prefixes, found, strict=True):
                hypothesis = level[prefix]
                _add(finished, prefix, hypothesis, float(log_probs[BLANK]))
                if emitted == max_symbols:
                    continue
                gains = log_probs + symbol_bonus
                if lm is not None:
                    gains = gains + lm_weight * search.known[prefix].lm_log_probs
                gains[BLANK] = -np.inf
                for symbol in _best(gains, beam):
                    gain, log_prob = float(gains[symbol]), float(log_probs[symbol])
                    _add(following, (*prefix, symbol), hypothesis, gain, t, log_prob)
            if not following:
                break
            level = _pruned(following, beam)
        current = _pruned(finished, beam)
        search.forget(current)
    search.look_up(list(current))
    results = [
        Emitted(prefix, h.rows, h.log_probs, h.log_prob, search.known[prefix].lm_score)
        for prefix, h in current.items()
    ]
    return sorted(results, key=lambda result: -result.score)[:nbest]


class _Search:
    """Runs the networks once for each prefix, several at a time."""

    def __init__(self, steps: TransducerSteps, lm: StepwiseLM | None):
        self._steps, self._lm = steps, lm
        none = np.zeros(0, np.float32)
        self._before = _Prefix(none, steps.start()[0], none, lm.start()[0] if lm else none, 0.0)
        self.known: dict[tuple[int, ...], _Prefix] = {}

    def look_up(self, prefixes: Sequence[tuple[int, ...]]) -> None:
        """Let `known` have them; all but their last symbol it has already."""
        new = [prefix for prefix in prefixes if prefix not in self.known]
        if not new:
            return
        before = [self.known[prefix[:-1]] if prefix else self._before for prefix in new]
        symbols = np.array([prefix[-1] if prefix else BLANK for prefix in new])
        predicted, states = self._steps.predict(symbols, np.stack([b.state for b in before]))
        lm_log_probs = lm_states = [np.zeros(0, np.float32)] * len(new)
        if self._lm:
            found = self._lm.step(symbols, np.stack([b.lm_state for b in before]))
            lm_log_probs, lm_states = map(list, found)
        for i, (prefix, b) in enumerate(zip(new, before, strict=True)):
            lm_score = b.lm_score
            if self._lm and prefix:
                lm_score += float(b.lm_log_probs[prefix[-1]])
            self.known[prefix] = _Prefix(
                predicted[i], states[i], lm_log_probs[i], lm_states[i], lm_score
            )

    def forget(self, kept: dict[tuple[int, ...], _Hypothesis]) -> None:
        self.known = {prefix: self.known[prefix] for prefix in kept}


def _add(
    hypotheses: dict[tuple[int, ...], _Hypothesis],
    prefix: tuple[int, ...],
    before: _Hypothesis,
    gain: float,
    row: int | None = None,
    log_prob: float = 0.0,
) -> None:
    """Another way to `prefix`, from `before`."""
    new = hypotheses.setdefault(prefix, _Hypothesis(-math.inf))
    new.log_prob = float(np.logaddexp(new.log_prob, before.log_prob + gain))
    if before.best + gain > new.best or not math.isfinite(new.best):
        new.best = before.best + gain
        new.rows = before.rows if row is None else (*before.rows, row)
        new.log_probs = before.log_probs if row is None else (*before.log_probs, log_prob)


def _best(gains: Floats, beam: int) -> list[int]:
    """The `beam` best symbols, which must be possible at all."""
    few = len(gains) <= beam
    chosen = np.arange(len(gains)) if few else np.argpartition(-gains, beam - 1)[:beam]
    return [int(symbol) for symbol in chosen if np.isfinite(gains[symbol])]


def _pruned(
    hypotheses: dict[tuple[int, ...], _Hypothesis], beam: int
) -> dict[tuple[int, ...], _Hypothesis]:
    if len(hypotheses) <= beam:
        return hypotheses
    return dict(sorted(hypotheses.items(), key=lambda item: -item[1].log_prob)[:beam])

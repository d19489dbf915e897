"""Beam search for attention decoders, alone or together with CTC, over anything that steps.

An attention decoder emits one symbol after the other, and looks at all of the utterance for each;
class 0 ends the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from asr.decode.transducer import StepwiseLM

END = 0
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class AttentionSteps(Protocol):
    """An attention decoder as a search calls it."""

    def start(self, n_rows: int) -> tuple[Floats, Floats]:
        """The state (1, S) before the first symbol, and where it looked (1, T): at nothing."""
        ...

    def step(
        self, encoded: Floats, symbols: np.ndarray, states: Floats, looked: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Rows (T, J) of one utterance, and of N texts the last symbols (N,), states, attention.

        Returns log-probabilities (N, classes) of what is next, states (N, S), attention (N, T).
        """
        ...


@dataclass(frozen=True)
class Spelled:
    """A result: symbols, where the decoder looked as it emitted each, and their probabilities.

    attention: (symbols, T). score: weighted sum of all models, the end of the text included.
    """

    symbols: tuple[int, ...]
    attention: Floats
    log_probs: tuple[float, ...]
    score: float
    lm_score: float = 0.0


@dataclass(frozen=True)
class _Open:
    """An unfinished text with the state that its continuation needs."""

    symbols: tuple[int, ...]
    attention: tuple[Floats, ...]
    log_probs: tuple[float, ...]
    decoder_score: float
    lm_score: float
    state: Floats
    looked: Floats
    ctc: Doubles | None  # state of CTCPrefixes
    lm_state: Floats


def beam_search(
    steps: AttentionSteps,
    encoded: Floats,
    *,
    beam: int = 10,
    nbest: int = 1,
    max_symbols: int | None = None,
    ctc_log_probs: Floats | None = None,
    ctc_weight: float = 0.3,
    lm: StepwiseLM | None = None,
    lm_weight: float = 0.0,
    symbol_bonus: float = 0.0,
) -> list[Spelled]:
    """The most probable texts for the rows (T, J) of an utterance, best first.

    Args:
        max_symbols: a text has no more of them (default: T).
        ctc_log_probs: (T, classes) of a CTC head over the same classes. Its probability of all
            texts that begin as a hypothesis does joins in with `ctc_weight`, and the decoder keeps
            1 - ctc_weight (Hori et al. 2017): CTC knows no loops and no skips.
        lm: a language model over the same classes, added with `lm_weight` (shallow fusion).
        symbol_bonus: for every symbol.

    With a beam that drops nothing, the score of a text is the exact weighted sum.
    """
    ctc = None if ctc_log_probs is None else CTCPrefixes(ctc_log_probs)
    search = _Search(steps, encoded, ctc, ctc_weight, lm, lm_weight, symbol_bonus)
    opened, finished = [search.first()], list[Spelled]()
    longest = len(encoded) if max_symbols is None else max_symbols
    for length in range(longest + 1):
        step = search.step(opened)
        finished += search.ended(opened, step)
        finished = sorted(finished, key=lambda s: -s.score)[: max(nbest, 1)]
        if length == longest:
            break
        step.totals[:, END] = -np.inf
        flat = step.totals.ravel()
        order = np.argsort(-flat, kind="stable")[:beam]
        chosen = [divmod(int(k), step.totals.shape[1]) for k in order if np.isfinite(flat[k])]
        if len(finished) == nbest:  # what is open can only lose, unless symbols have a bonus
            bound = finished[-1].score - max(symbol_bonus, 0.0) * (longest - length)
            chosen = [(i, c) for i, c in chosen if step.totals[i, c] > bound]
        if not chosen:
            break
        opened = [search.extended(opened[i], step, i, c) for i, c in chosen]
    return finished


class _Step(NamedTuple):
    """What may follow N open texts."""

    totals: Doubles  # (N, classes): scores of the texts with each symbol more
    log_probs: Floats  # (N, classes)
    states: Floats
    attention: Floats
    lm_log_probs: Floats
    lm_states: Floats
    ctc: list[tuple[Doubles, Doubles]]  # of `CTCPrefixes.extend`, empty without CTC


@dataclass(frozen=True)
class _Search:
    """The models and their weights, over one utterance."""

    steps: AttentionSteps
    encoded: Floats
    ctc: CTCPrefixes | None
    ctc_weight: float
    lm: StepwiseLM | None
    lm_weight: float
    symbol_bonus: float

    def first(self) -> _Open:
        state, looked = self.steps.start(len(self.encoded))
        lm_state = self.lm.start()[0] if self.lm else np.zeros(0, np.float32)
        return _Open((), (), (), 0.0, 0.0, state[0], looked[0], None, lm_state)

    def step(self, opened: Sequence[_Open]) -> _Step:
        last = np.array([h.symbols[-1] if h.symbols else END for h in opened])
        states, looked = np.stack([h.state for h in opened]), np.stack([h.looked for h in opened])
        log_probs, states, attention = self.steps.step(self.encoded, last, states, looked)
        lm_log_probs, lm_states = np.zeros_like(log_probs), np.stack([h.lm_state for h in opened])
        if self.lm:
            lm_log_probs, lm_states = self.lm.step(last, lm_states)
        decoder_weight = 1.0 - self.ctc_weight if self.ctc else 1.0
        gains = decoder_weight * log_probs.astype(np.float64) + self.lm_weight * lm_log_probs
        gains[:, END + 1 :] += self.symbol_bonus
        # All but CTC, whose score of a longer prefix takes the place of that of the shorter one.
        before = [
            decoder_weight * h.decoder_score
            + self.lm_weight * h.lm_score
            + self.symbol_bonus * len(h.symbols)
            for h in opened
        ]
        totals = np.array(before)[:, None] + gains
        ctc = [self.ctc.extend(h.ctc, h.symbols) for h in opened] if self.ctc else []
        if ctc:
            totals += self.ctc_weight * np.stack([scores for scores, _ in ctc])
        return _Step(totals, log_probs, states, attention, lm_log_probs, lm_states, ctc)

    def ended(self, opened: Sequence[_Open], step: _Step) -> Iterator[Spelled]:
        """The open texts, ended here."""
        for i, h in enumerate(opened):
            if np.isfinite(step.totals[i, END]):
                lm_score = h.lm_score + float(step.lm_log_probs[i, END])
                seen = np.array(h.attention, np.float32).reshape(len(h.symbols), len(self.encoded))
                yield Spelled(h.symbols, seen, h.log_probs, float(step.totals[i, END]), lm_score)

    def extended(self, h: _Open, step: _Step, i: int, symbol: int) -> _Open:
        """The i-th open text with a symbol more."""
        log_prob = float(step.log_probs[i, symbol])
        return _Open(
            (*h.symbols, symbol),
            (*h.attention, step.attention[i]),
            (*h.log_probs, log_prob),
            h.decoder_score + log_prob,
            h.lm_score + float(step.lm_log_probs[i, symbol]),
            step.states[i],
            step.attention[i],
            step.ctc[i][1][..., symbol] if step.ctc else None,
            step.lm_states[i],
        )


class CTCPrefixes:
    """ln p under CTC of all texts that begin with a prefix (Watanabe et al. 2017, algorithm 2).

    A prefix's state (2, T) are the log-probabilities of having emitted it by each frame, the last
    of them its last symbol [0] or a blank [1].
    """

    def __init__(self, log_probs: Floats):
        self._log_probs = log_probs.astype(np.float64)
        blanks = np.cumsum(self._log_probs[:, END])
        self._nothing = np.stack([np.full(len(blanks), -np.inf), blanks])

    def extend(
        self, state: NDArray[np.float64] | None, symbols: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores (classes,) of the prefix with each symbol more; for class 0, of ending here.

        Also the states (2, T, classes) of the longer prefixes.
        """
        before = self._nothing if state is None else state
        n_frames, classes = self._log_probs.shape
        either = np.logaddexp(*before)
        states = np.full((2, n_frames, classes), -np.inf)
        # Where a symbol may begin: after the prefix, or, to repeat its last symbol, after a blank.
        ways = np.repeat(either[:, None], classes, axis=1)
        if symbols:
            ways[:, symbols[-1]] = before[1]
        else:
            states[0, 0] = self._log_probs[0]
        scores = states[0, 0].copy()
        for t in range(1, n_frames):
            begun = ways[t - 1] + self._log_probs[t]
            states[0, t] = np.logaddexp(states[0, t - 1] + self._log_probs[t], begun)
            blank = self._log_probs[t, END]
            states[1, t] = np.logaddexp(states[0, t - 1], states[1, t - 1]) + blank
            scores = np.logaddexp(scores, begun)
        scores[END] = either[-1]
        return scores, states

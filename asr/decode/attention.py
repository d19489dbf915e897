"""Beam search for attention decoders, alone or together with CTC, over anything that steps.

An attention decoder emits one symbol after the other, and looks at all of the utterance for each;
class 0 ends the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asr.decode.transducer import StepwiseLM

END = 0
Floats = NDArray[np.float32]


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

    attention: (symbols, T). score: weighted sum of all that judged the text, its end included.
    """

    symbols: tuple[int, ...]
    attention: Floats
    log_probs: tuple[float, ...]
    score: float
    lm_score: float = 0.0
    ended: bool = True


@dataclass(frozen=True)
class _Open:
    """An unfinished text with what has to be known of it to go on."""

    symbols: tuple[int, ...]
    attention: tuple[Floats, ...]
    log_probs: tuple[float, ...]
    decoder_score: float
    lm_score: float
    state: Floats
    looked: Floats
    ctc: NDArray[np.float64] | None  # state of CTCPrefixes
    lm_state: Floats


def beam_search(
    steps: AttentionSteps,
    encoded: Floats,
    *,
    beam: int = 10,
    nbest: int = 1,
    most_symbols: int | None = None,
    ctc_log_probs: Floats | None = None,
    ctc_weight: float = 0.3,
    lm: StepwiseLM | None = None,
    lm_weight: float = 0.0,
    symbol_bonus: float = 0.0,
) -> list[Spelled]:
    """The likeliest texts for the rows (T, J) of an utterance, the best first.

    Args:
        most_symbols: a text has no more of them (default: T).
        ctc_log_probs: (T, classes) of a CTC head over the same classes. Its probability of all
            texts that begin as a hypothesis does joins in with `ctc_weight`, and the decoder keeps
            1 - ctc_weight (Hori et al. 2017): CTC knows no loops and no skips.
        lm: a language model over the same classes, added with `lm_weight` (shallow fusion).
        symbol_bonus: for every symbol.

    With a beam that drops nothing, the score of a text is the exact weighted sum.
    """
    state, looked = steps.start(len(encoded))
    prefixes = None if ctc_log_probs is None else CTCPrefixes(ctc_log_probs)
    decoder_weight = 1.0 if prefixes is None else 1.0 - ctc_weight
    lm_start = lm.start()[0] if lm else np.zeros(0, np.float32)
    first = _Open((), (), (), 0.0, 0.0, state[0], looked[0], None, lm_start)
    opened, finished = [first], list[Spelled]()
    most = len(encoded) if most_symbols is None else most_symbols
    for length in range(most + 1):
        last = np.array([h.symbols[-1] if h.symbols else END for h in opened])
        log_probs, states, attention = steps.step(
            encoded, last, np.stack([h.state for h in opened]), np.stack([h.looked for h in opened])
        )
        lm_log_probs, lm_states = np.zeros_like(log_probs), np.stack([h.lm_state for h in opened])
        if lm:
            lm_log_probs, lm_states = lm.step(last, lm_states)
        gains = decoder_weight * log_probs.astype(np.float64) + lm_weight * lm_log_probs
        gains[:, END + 1 :] += symbol_bonus
        before = np.array([_total(h, decoder_weight, lm_weight, symbol_bonus) for h in opened])
        totals = before[:, None] + gains
        following: list[tuple[NDArray, NDArray]] = []
        if prefixes is not None:
            following = [prefixes.extend(h.ctc, h.symbols) for h in opened]
            totals += ctc_weight * np.stack([scores for scores, _ in following])
        for i, h in enumerate(opened):
            if np.isfinite(totals[i, END]):
                lm_score = h.lm_score + float(lm_log_probs[i, END])
                seen = np.array(h.attention, np.float32).reshape(len(h.symbols), len(encoded))
                score = float(totals[i, END])
                finished.append(Spelled(h.symbols, seen, h.log_probs, score, lm_score))
        finished = sorted(finished, key=lambda s: -s.score)[: max(nbest, 1)]
        if length == most:
            break
        totals[:, END] = -np.inf
        flat = totals.ravel()
        order = np.argsort(-flat, kind="stable")[:beam]
        chosen = [divmod(int(k), totals.shape[1]) for k in order if np.isfinite(flat[k])]
        if len(finished) == nbest:  # what is open can only lose, unless symbols have a bonus
            bound = finished[-1].score - max(symbol_bonus, 0.0) * (most - length)
            chosen = [(i, c) for i, c in chosen if totals[i, c] > bound]
        if not chosen:
            break
        opened = [
            _Open(
                (*opened[i].symbols, c),
                (*opened[i].attention, attention[i]),
                (*opened[i].log_probs, float(log_probs[i, c])),
                opened[i].decoder_score + float(log_probs[i, c]),
                opened[i].lm_score + float(lm_log_probs[i, c]),
                states[i],
                attention[i],
                following[i][1][..., c] if following else None,
                lm_states[i],
            )
            for i, c in chosen
        ]
    return finished


def _total(h: _Open, decoder_weight: float, lm_weight: float, symbol_bonus: float) -> float:
    """All but CTC, whose score of a longer prefix takes the place of that of the shorter one."""
    others = decoder_weight * h.decoder_score + lm_weight * h.lm_score
    return others + symbol_bonus * len(h.symbols)


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

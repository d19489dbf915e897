"""The lattice: what was tried in which frame, kept to align and score the texts that are found.

A frame of the lattice holds the probability of its blank and of the tokens tried. Frames that are
all blank are left out; their probability is added up beside it. Compiled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from asr.alignment.likelihood import forward
from asr.compiled import inner, kernel

CONTINUES = -2
MIN_PROBABILITY = 1e-10  # of a blank in an alignment


def align(
    lattice: np.ndarray, entries: np.ndarray, tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The best alignment of `tokens` (n,) with what the search tried, by Viterbi's algorithm.

    Returns first and last frame (n, 2) of each token and its greatest probability there (n,). If
    the lattice does not hold the tokens, they are spread over it with probability 0: possible only
    if what was forgotten took a frame that this hypothesis had used.

    Blanks between tokens are free once every probability is divided by its frame's blank, so that
    a token costs one pass over the frames between the earliest and the latest where it can be.
    """
    n_tokens = len(tokens)
    spans, probabilities = np.zeros((n_tokens, 2), np.int64), np.zeros(n_tokens)
    first, last = np.zeros(n_tokens, np.int64), np.zeros(n_tokens, np.int64)
    if n_tokens == 0:
        return spans, probabilities
    if not (
        _windows(lattice, entries, tokens, first, 1)
        and _windows(lattice, entries, tokens, last, -1)
    ):
        spans[:] = np.sort(np.resize(lattice["number"], n_tokens))[:, None]
        return spans, probabilities
    offset = np.append(0, np.cumsum(np.maximum(0, last - first + 1)))
    score, origin = np.full(offset[-1], -np.inf), np.full(offset[-1], -1)
    _fill(lattice, entries, tokens, first, last, offset, score, origin)
    _follow(lattice, entries, tokens, first, offset, score, origin, spans, probabilities)
    return spans, probabilities


def path_scores(
    lattice: np.ndarray, entries: np.ndarray, paths: Sequence[np.ndarray], classes: int, blank: int
) -> np.ndarray:
    """(paths,): ln p of each path's tokens, summed over all alignments with the lattice."""
    frames = len(lattice)
    entries = entries[: lattice["last"][-1] if frames else 0]
    # A row of blank stands for frames that are left out: it separates equal tokens.
    rows = np.arange(frames) + np.cumsum(np.diff(lattice["number"], prepend=-1) > 1)
    table = np.zeros((rows[-1] + 1 if frames else 0, classes))
    table[:, blank] = 1.0
    table[rows, blank] = lattice["blank"]
    of_entry = np.repeat(rows, lattice["last"] - lattice["first"])
    table[of_entry, entries["token"]] = entries["probability"]
    ends = np.cumsum([0, *map(len, paths)])
    scores = np.empty(len(paths))
    labels = np.concatenate([np.zeros(0, np.int64), *paths], dtype=np.int64)
    forward(table, labels, ends, blank, scores)
    return scores


@kernel
def forget(beam, number):
    """Forget the lattice before frame `number`."""
    state, kept, entries = beam.state[0], 0, 0
    for f in range(state.lattice_frames):
        frame = beam.lattice[f]
        if frame.number >= number:
            first = entries
            for e in range(frame.first, frame.last):
                beam.entries[entries] = beam.entries[e]
                entries += 1
            moved = beam.lattice[kept]
            moved.number, moved.blank = frame.number, frame.blank
            moved.first, moved.last = first, entries
            kept += 1
    state.lattice_frames = kept
    state.lattice_entries = entries


@kernel
def _windows(lattice, entries, tokens, bound, direction):
    """The earliest (direction 1) or latest (-1) frame of the lattice where each token can be."""
    f = 0 if direction > 0 else len(lattice) - 1
    k = 0 if direction > 0 else len(tokens) - 1
    for step in range(len(tokens)):
        if step > 0 and tokens[k] == tokens[k - direction] and 0 <= f < len(lattice):
            f += direction * (abs(lattice[f].number - lattice[f - direction].number) == 1)
        while 0 <= f < len(lattice) and _probability(lattice, entries, f, tokens[k]) == 0.0:
            f += direction
        if not 0 <= f < len(lattice):
            return False
        bound[k] = f
        f += direction
        k += direction
    return True


@kernel
def _fill(lattice, entries, tokens, first, last, offset, score, origin):
    """Best log-ratio of a path on which the k-th token ends in a frame, and the frame where the
    token before ended, or CONTINUES if this one was in the frame before, too.
    """
    for k in range(len(tokens)):
        reached, reached_at, before = (0.0 if k == 0 else -np.inf), -1, first[max(k - 1, 0)]
        repeats = k > 0 and tokens[k] == tokens[k - 1]
        for f in range(first[k], last[k] + 1):
            at = offset[k] + f - first[k]
            adjacent = f > 0 and lattice[f].number == lattice[f - 1].number + 1
            # A repeated token needs a blank between: a frame in which nothing was tried will do.
            end = f - 1 if repeats and adjacent else f
            while k > 0 and before < min(end, last[k - 1] + 1):
                value = score[offset[k - 1] + before - first[k - 1]]
                if value > reached:
                    reached, reached_at = value, before
                before += 1
            probability = _probability(lattice, entries, f, tokens[k])
            if probability == 0.0:
                continue
            best, origin[at] = reached, reached_at
            if f > first[k] and adjacent and score[at - 1] >= best:
                best, origin[at] = score[at - 1], CONTINUES
            score[at] = best + math.log(probability / max(lattice[f].blank, MIN_PROBABILITY))


@kernel
def _follow(lattice, entries, tokens, first, offset, score, origin, spans, probabilities):
    k = len(tokens) - 1
    best = offset[k]
    for at in range(offset[k], offset[k + 1]):
        if score[at] > score[best]:
            best = at
    f = first[k] + best - offset[k]
    while k >= 0:
        spans[k, 1] = lattice[f].number
        probabilities[k] = _probability(lattice, entries, f, tokens[k])
        while origin[offset[k] + f - first[k]] == CONTINUES:
            f -= 1
            here = _probability(lattice, entries, f, tokens[k])
            probabilities[k] = max(probabilities[k], here)
        spans[k, 0] = lattice[f].number
        f = origin[offset[k] + f - first[k]]
        k -= 1


@inner
def _probability(lattice, entries, f, token):
    for e in range(lattice[f].first, lattice[f].last):
        if entries[e].token == token:
            return entries[e].probability
    return 0.0

"""The lattice: what was tried in which frame, kept to align and score the texts that are found.

A frame of the lattice holds the probability of its blank and of the tokens tried. Frames that are
all blank are left out; their probability is added up beside it. Compiled; so is the forward
algorithm of CTC, which tells how probable whole texts are without a search.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from asr.compiled import inner, kernel
from asr.errors import DecodeError
from asr.text.vocabulary import Vocabulary

_SMALL = 1e-50  # masses are scaled up when their greatest falls below
_NEGLIGIBLE = 1e-100  # share of the greatest mass in a frame


def text_log_likelihoods(
    log_probs: np.ndarray, texts: Sequence[str], vocabulary: Vocabulary
) -> np.ndarray:
    """(texts,): ln p(text | audio) as a network's head spells it.

    `log_probs`: (frames, classes) natural-log probabilities of one utterance. A text that
    `vocabulary` cannot spell, or that takes more frames than there are, gets -inf.
    """
    unknown: list[Counter[str]] = [Counter() for _ in texts]
    targets = [vocabulary.encode(*pair) for pair in zip(texts, unknown, strict=True)]
    scores = ctc_log_likelihood(log_probs, targets, vocabulary.blank)
    return np.where([bool(lost) for lost in unknown], -np.inf, scores)


def ctc_log_likelihood(
    log_probs: np.ndarray, targets: Sequence[Sequence[int]], blank: int = 0
) -> np.ndarray:
    """(len(targets),) float64: ln p(target | log_probs), summed over all alignments.

    `log_probs`: (frames, classes) natural-log probabilities; `targets`: class indices without
    blanks. -inf where a target does not fit into the frames (Graves et al. 2006, "Connectionist
    Temporal Classification", 4.1). Raises DecodeError for other shapes and for targets that hold
    a blank or no class.

    >>> halves = np.log(np.full((2, 2), 0.5))
    >>> np.exp(ctc_log_likelihood(halves, [[], [1], [1, 1]])).tolist()
    [0.25, 0.75, 0.0]
    """
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 2 or log_probs.dtype.kind != "f":
        raise DecodeError(
            f"log-probabilities of shape {log_probs.shape} and type {log_probs.dtype}",
            "give one utterance as floats of shape (frames, classes)",
        )
    labels = np.array([label for target in targets for label in target], np.int64)
    if np.any((labels < 0) | (labels >= log_probs.shape[1]) | (labels == blank)):
        raise DecodeError(
            f"a target holds the blank or a class beyond the {log_probs.shape[1]} there are",
            "use the vocabulary that the network was trained with",
        )
    ends = np.cumsum([0, *map(len, targets)])
    scores = np.empty(len(targets))
    forward(np.exp(log_probs, dtype=np.float64), labels, ends, blank, scores)
    return scores


def forward(
    probabilities: np.ndarray, labels: np.ndarray, ends: np.ndarray, blank: int, scores: np.ndarray
) -> None:
    """Fill `scores` with ln p of every target; target n is labels[ends[n]:ends[n + 1]]."""
    room = int(np.diff(ends).max(initial=0)) + 2
    _forward(probabilities, labels, ends, blank, np.empty(room), np.empty(room), scores)


@kernel
def _forward(probabilities, labels, ends, blank, after_blank, after_label, scores):
    """`forward`; `after_blank`, `after_label`: scratch, two longer than the longest target.

    In the linear domain, and only over the prefixes of a target that a path to its end can be in
    and whose mass is no smaller than _NEGLIGIBLE of the greatest: a band along the diagonal.
    """
    frames = len(probabilities)
    for n in range(len(scores)):
        target = labels[ends[n] : ends[n + 1]]
        size = len(target)
        for k in range(size + 2):
            after_blank[k], after_label[k] = 0.0, 0.0
        after_blank[0] = 1.0  # of the prefix of k tokens: mass of paths whose last is a blank,
        low, high = 0, 0  # and of those whose last is a token; all others than these are 0
        exponent = 0.0
        for t in range(frames):
            row = probabilities[t]
            min_size = size - (frames - t - 1)  # a path needs a frame for every token
            high = min(size, high + 1)
            greatest = 0.0
            for k in range(high, max(low, min_size) - 1, -1):
                after = (after_blank[k] + after_label[k]) * row[blank]
                label = 0.0
                if k > 0:
                    label = after_label[k] + after_blank[k - 1]
                    if k == 1 or target[k - 1] != target[k - 2]:
                        label += after_label[k - 1]
                    label *= row[target[k - 1]]
                after_blank[k], after_label[k] = after, label
                greatest = max(greatest, after + label)
            while low < min_size:
                after_blank[low], after_label[low] = 0.0, 0.0
                low += 1
            if greatest == 0.0:
                break
            negligible = greatest * _NEGLIGIBLE
            while after_blank[low] + after_label[low] < negligible:
                after_blank[low], after_label[low] = 0.0, 0.0
                low += 1
            while after_blank[high] + after_label[high] < negligible:
                after_blank[high], after_label[high] = 0.0, 0.0
                high -= 1
            if greatest < _SMALL:
                for k in range(low, high + 1):
                    after_blank[k] /= greatest
                    after_label[k] /= greatest
                exponent += math.log(greatest)
        mass = after_blank[size] + after_label[size]
        scores[n] = math.log(mass) + exponent if mass > 0.0 else -np.inf


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

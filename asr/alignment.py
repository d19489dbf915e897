"""Where in the audio each word of a known text is: CTC forced alignment, hours long if need be.

Not everything has to fit. Sound that the text does not account for, and words that the audio does
not hold, cost something, and are left out where that is cheaper than to force them together. So a
wrong word does not take its neighbours along (the `star` of V. Pratap et al. 2023, "Scaling speech
technology to 1,000+ languages", on every border between words).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asr.compiled import compiled
from asr.errors import ConfigError, DecodeError
from asr.text.vocabulary import Vocabulary
from asr.words import to_probabilities

NO_LABEL = -1


class Chain(NamedTuple):
    """Items (words and spaces) and their states; after the last item stands one more junction.

    The states stand in the order of the text: for every word a junction, for silence or sound that
    belongs to no word, and then, for each of its spellings, label, blank, label, …, label. A path
    enters a word from the best path up to the junction before it; a word can be skipped at a cost.
    """

    first: np.ndarray  # (items + 2,) int64: states of item i are first[i] … first[i + 1] - 1
    spelled: np.ndarray  # (items + 2,) int64: its spellings are spelled[i] … spelled[i + 1] - 1
    begin: np.ndarray  # (spellings,) int64: state of the first label
    end: np.ndarray  # (spellings,) int64: and of the last
    label: np.ndarray  # (states,) int64: class; that of a junction means nothing
    skip: np.ndarray  # (items + 1,) float64: what leaving an item out costs


@compiled
def sweep(log_probs, foreign, blank, chain, scores, origins, came_from, begin, end, window, beam):
    """Go through frames `begin` to `end`; returns the window (first item, end of items) reached.

    The first sweep keeps no back-pointers: every state carries along where its path was at the
    start of a block, so that the blocks can be gone through once more, from the last to the first,
    each between two known states. Memory is one block's (after Hirschberg 1975, "A linear space
    algorithm for computing maximal common subsequences").

    `log_probs`: (frames, classes); `foreign`: (frames,) of a junction. `scores`: (2, states), the
    row begin % 2 holds those after frame begin - 1; -inf where the window never was. Afterwards
    origins[end % 2] holds where the best path to each state was after frame begin - 1.
    """
    low, high = window
    first, last = chain.first[low], chain.first[high]
    for s in range(first, last):
        origins[begin % 2, s] = s
    best = scores[begin % 2, first:last].max()
    for t in range(begin, end):
        now, then = t % 2, (t + 1) % 2
        floor = -math.inf if t == len(log_probs) - 1 else best - beam
        best, low, high = _advance(
            log_probs[t],
            foreign[t],
            blank,
            chain,
            scores[now],
            scores[then],
            came_from,
            low,
            high,
            floor,
        )
        for s in range(chain.first[low], chain.first[high]):
            origins[then, s] = origins[now, came_from[s]]
        while scores[then, chain.first[low] : chain.first[low + 1]].max() < best - beam:
            low += 1
    return low, high


@compiled
def retrace(log_probs, foreign, blank, chain, scores, came_from, begin, end, start, goal, path):
    """Fill path[begin:end] with the states of the best path from `start` to `goal`.

    `start` is the state after frame begin - 1, `goal` that after frame end - 1.
    """
    low = np.searchsorted(chain.first, start, side="right") - 1
    high = np.searchsorted(chain.first, goal, side="right")
    first, last = chain.first[low], chain.first[high]
    scores[:, first:last] = -math.inf
    scores[begin % 2, start] = 0.0
    back = np.empty((end - begin, last - first), np.int32)
    for t in range(begin, end):
        _advance(
            log_probs[t],
            foreign[t],
            blank,
            chain,
            scores[t % 2],
            scores[(t + 1) % 2],
            came_from,
            low,
            high,
            math.inf,
        )
        back[t - begin] = came_from[first:last]
    for t in range(end - 1, begin - 1, -1):
        path[t] = goal
        goal = np.int64(back[t - begin, goal - first])


@compiled
def _advance(row, foreign, blank, chain, before, after, came_from, low, high, floor):
    """One frame for the items from `low` on: to `high`, and beyond while that is above `floor`.

    Returns the best score, and the window.
    """
    # The best ways to the border before an item: two, whose last labels differ, for a label may
    # not follow itself without a blank.
    best_way, best_from, best_label = -math.inf, np.int64(0), np.int64(NO_LABEL)
    other_way, other_from = -math.inf, np.int64(0)
    best = -math.inf
    items = len(chain.first) - 1
    for i in range(low, items):
        junction = chain.first[i]
        if before[junction] > best_way:
            if best_label != NO_LABEL:
                other_way, other_from = best_way, best_from
            best_way, best_from, best_label = before[junction], junction, np.int64(NO_LABEL)
        elif best_label != NO_LABEL and before[junction] > other_way:
            other_way, other_from = before[junction], junction
        if i >= high:
            if best_way < floor or best_way == -math.inf:
                break
            high = i + 1
        after[junction] = best_way + foreign
        came_from[junction] = best_from
        best = max(best, after[junction])
        skip = chain.skip[i]
        next_way, next_from, next_label = best_way - skip, best_from, best_label
        next_other, next_other_from = other_way - skip, other_from
        for k in range(chain.spelled[i], chain.spelled[i + 1]):
            s, end = chain.begin[k], chain.end[k]
            label = chain.label[s]
            way, origin = best_way, best_from
            if label == best_label:
                way, origin = other_way, other_from
            while True:
                if before[s] >= way:
                    way, origin = before[s], s
                after[s], came_from[s] = way + row[label], origin
                best = max(best, after[s])
                if s == end:
                    break
                way, origin = before[s], s
                if before[s + 1] >= way:
                    way, origin = before[s + 1], s + 1
                after[s + 1], came_from[s + 1] = way + row[blank], origin
                best = max(best, after[s + 1])
                way, origin = before[s + 1], s + 1
                if chain.label[s + 2] != label and before[s] > way:
                    way, origin = before[s], s
                s += 2
                label = chain.label[s]
            if before[end] > next_way:
                if label != next_label:
                    next_other, next_other_from = next_way, next_from
                next_way, next_from, next_label = before[end], end, label
            elif label != next_label and before[end] > next_other:
                next_other, next_other_from = before[end], end
        best_way, best_from, best_label = next_way, next_from, next_label
        other_way, other_from = next_other, next_other_from
    return best, low, high


BLOCK = 512  # frames whose back-pointers are kept at a time
_MIN_PROBABILITY = (
    1e-10  # a probability of 0 would forbid what a damaged frame or two make impossible
)

Spellings = Sequence[Sequence[int]]


@dataclass(frozen=True)
class AlignmentConfig:
    """What need not fit. Costs are natural logarithms; inf: everything must fit."""

    absent: float = 2.5
    """Cost of leaving out a word, for each unit of its shortest spelling."""
    foreign: float = 1.5
    """Cost of a frame of sound that belongs to no word, beside its most probable unit."""
    beam: float = 3000.0
    """Prune partial alignments that are this much worse than the best."""

    def __post_init__(self) -> None:
        for name in ("absent", "foreign", "beam"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", "it must be above 0")


@dataclass(frozen=True, slots=True)
class Token:
    """A unit and the frames, `first` to `last` inclusive, in which it is said.

    `probability` is its greatest there.
    """

    unit: int
    first: int
    last: int
    probability: float


def align(
    log_probs: np.ndarray,
    words: Sequence[Spellings],
    vocabulary: Vocabulary,
    config: AlignmentConfig | None = None,
) -> list[tuple[Token, ...]]:
    """The tokens of each word, in the best of its spellings; none for a word that was left out.

    `log_probs`: (frames, classes) natural-log probabilities; `words`: for each word its spellings
    as classes of `vocabulary`, none for a word of which nothing is known but that it is there.
    Memory grows with frames and with words, not with their product. Raises DecodeError where
    `log_probs` are no log-probabilities of the vocabulary, and where everything must fit and does
    not.

    >>> vocabulary = Vocabulary.characters("abc")
    >>> log_probs = np.log(np.eye(5)[[2, 2, 0, 1, 3, 0]] * 0.9 + 0.02)
    >>> spelled = [[vocabulary.encode(word)] for word in ("a", "cc", "b")]
    >>> found = align(log_probs, spelled, vocabulary)
    >>> [[(token.unit, token.first, token.last) for token in word] for word in found]
    [[(2, 0, 1)], [], [(3, 4, 4)]]
    """
    config = config or AlignmentConfig()
    probabilities = to_probabilities(log_probs, len(vocabulary))
    chain, item_of_word = _chain(words, vocabulary, config)
    path = _best_path(probabilities, chain, vocabulary.blank, config)
    return _tokens(path, chain, item_of_word, probabilities)


def _chain(
    words: Sequence[Spellings], vocabulary: Vocabulary, config: AlignmentConfig
) -> tuple[Chain, list[int]]:
    """States for all words, with a space that may be left out between two; and the words' items."""
    space = vocabulary.symbols.index(" ") if " " in vocabulary.symbols else None
    items: list[tuple[Spellings, float]] = []
    item_of_word = []
    for word in words:
        if space is not None and items:
            items.append(([[space]], 0.0))
        item_of_word.append(len(items))
        spellings: Spellings = [spelling for spelling in word if len(spelling)]
        shortest = min(map(len, spellings), default=0)
        items.append((spellings, config.absent * shortest if shortest else 0.0))
    first, spelled = [0], [0]
    begin, end, label = [], [], []
    for spellings, _ in items:
        label.append(NO_LABEL)
        for spelling in spellings:
            begin.append(len(label))
            for unit in spelling:
                label += [unit, vocabulary.blank]
            label.pop()
            end.append(len(label) - 1)
        first.append(len(label))
        spelled.append(len(begin))
    label.append(NO_LABEL)
    first.append(len(label))
    spelled.append(len(begin))
    skip = [cost for _, cost in items] + [0.0]
    arrays = [np.array(values, np.int64) for values in (first, spelled, begin, end, label)]
    return Chain(*arrays, np.array(skip)), item_of_word  # type: ignore[call-arg]


def _best_path(
    probabilities: np.ndarray, chain: Chain, blank: int, config: AlignmentConfig
) -> np.ndarray:
    """(frames,) int64: the state of every frame."""
    # One frame of silence more, in which every path comes to the last junction.
    frames = len(probabilities)
    log_probs = np.full(
        (frames + 1, probabilities.shape[1]), math.log(_MIN_PROBABILITY), np.float32
    )
    np.log(np.maximum(probabilities, _MIN_PROBABILITY), out=log_probs[:-1])
    log_probs[-1, blank] = 0.0
    silent = log_probs[:, blank]
    foreign = np.maximum(silent, log_probs.max(axis=1) - config.foreign)
    foreign[-1] = 0.0
    states = len(chain.label)
    scores = np.full((2, states), -np.inf)
    scores[0, 0] = 0.0
    origins, came_from = np.zeros((2, states), np.int32), np.zeros(states, np.int32)
    begins = list(range(0, frames + 1, BLOCK))
    kept: list[tuple[int, np.ndarray]] = []  # origins at the end of each block, from a state on
    window = (0, 1)
    for begin in begins:
        end = min(begin + BLOCK, frames + 1)
        window = sweep(
            log_probs, foreign, blank, chain, scores, origins, came_from, begin, end, window,
            config.beam,
        )  # fmt: skip
        low, high = chain.first[window[0]], chain.first[window[1]]
        kept.append((low, origins[end % 2, low:high].copy()))
    goal = states - 1
    low, reached = kept[-1]
    if goal - low >= len(reached) or scores[(frames + 1) % 2, goal] == -np.inf:
        raise DecodeError(
            f"the text does not fit into the {frames} frames of the recording",
            "check that they belong together, or allow words to be absent",
        )
    path = np.zeros(frames + 1, np.int64)
    for begin, (low, reached) in zip(begins[::-1], kept[::-1], strict=True):
        end = min(begin + BLOCK, frames + 1)
        start = int(reached[goal - low])
        retrace(log_probs, foreign, blank, chain, scores, came_from, begin, end, start, goal, path)
        goal = start
    return path[:-1]


def _tokens(
    path: np.ndarray, chain: Chain, item_of_word: Sequence[int], probabilities: np.ndarray
) -> list[tuple[Token, ...]]:
    first = np.flatnonzero(np.diff(path, prepend=-1))
    last = np.append(first[1:], len(path)) - 1
    states = path[first]
    items = np.searchsorted(chain.first, states, side="right") - 1
    spoken = np.flatnonzero(states != chain.first[items])
    # Within a spelling, labels are the states at an even distance from its first.
    begins = chain.begin[np.searchsorted(chain.begin, states[spoken], side="right") - 1]
    found: dict[int, list[Token]] = {}
    for k in spoken[(states[spoken] - begins) % 2 == 0]:
        unit = int(chain.label[states[k]])
        probability = float(probabilities[first[k] : last[k] + 1, unit].max())
        token = Token(unit, int(first[k]), int(last[k]), probability)
        found.setdefault(int(items[k]), []).append(token)
    return [tuple(found.get(item, ())) for item in item_of_word]

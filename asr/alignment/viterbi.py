"""The compiled part of forced alignment: Viterbi through a chain of words, in bounded memory.

The states stand in the order of the text: for every word a junction, for silence or sound that
belongs to no word, and then, for each of its spellings, label, blank, label, …, label. A path
enters a word from the best path up to the junction before it; a word can be skipped at a cost.

The first sweep keeps no back-pointers. Every state carries along where its path was at the start of
a block of frames, so that the blocks can be gone through once more, from the last to the first,
each between two known states. Memory is one block's, whatever the length (after D. S. Hirschberg
1975, "A linear space algorithm for computing maximal common subsequences").
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asr.compiled import compiled

NO_LABEL = -1


class Chain(NamedTuple):
    """Items (words and spaces) and their states; after the last item stands one more junction."""

    first: np.ndarray  # (items + 2,) int64: states of item i are first[i] … first[i + 1] - 1
    spelled: np.ndarray  # (items + 2,) int64: its spellings are spelled[i] … spelled[i + 1] - 1
    begin: np.ndarray  # (spellings,) int64: state of the first label
    end: np.ndarray  # (spellings,) int64: and of the last
    label: np.ndarray  # (states,) int64: class; that of a junction means nothing
    skip: np.ndarray  # (items + 1,) float64: what leaving an item out costs


@compiled
def sweep(log_probs, foreign, blank, chain, scores, origins, came_from, begin, end, window, beam):
    """Go through frames `begin` to `end`; returns the window (first item, end of items) reached.

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

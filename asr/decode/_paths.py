"""Compiled helpers around the search: its results, the paths to them, and their place in time."""

from __future__ import annotations

import math

import numpy as np

from asr.compiled import inner, kernel
from asr.decode._walk import end_word, word_at
from asr.decode.tables import NOTHING
from asr.lm.ngram import ngram_score

CONTINUES = -2
LEAST_CHANCE = 1e-10  # floor of a blank's probability in an alignment


@kernel
def finish(beam, grammar, lm, results):
    """Fill `results` (RESULT) with the ways in which the utterance may end; returns how many.

    In a closed vocabulary unfinished words count only if there is nothing else; they are cut.
    """
    nodes, slots, rules, to = beam.nodes, beam.slots, grammar.rules[0], beam.candidates[0]
    found, complete = 0, 0
    for i in range(beam.state[0].size):
        at = slots[i].node
        node = nodes[at]
        is_spaced = node.token == rules.space and node.parent >= 0
        if is_spaced and nodes[node.parent].slot >= 0:
            continue  # the same text as its parent's, which takes its mass
        result = results[found]
        to.place, to.lm_state, to.hot = node.place, node.lm_state, node.hot
        to.gain, to.lm = 1.0, 0.0
        result.node, result.is_cut = at, False
        if node.place != 0:
            word = NOTHING if rules.unmarked else word_at(node.place, grammar.tree)
            end_word(word, grammar, lm, beam.memo, to)
            if to.gain == 0.0:
                result.is_cut = True
                to.gain = grammar.tree[node.place].leave
        result.mass = (slots[i].blank + slots[i].label) * to.gain
        result.mass += _mass_of_spaced(nodes, slots, at, rules.space)
        result.last_lm = to.lm
        last_gain = float(grammar.hot[to.hot, grammar.hot.shape[1] - 1].gain)
        if lm is not None:
            log_prob, _ = ngram_score(lm, to.lm_state, rules.lm_end)
            last_gain *= math.exp(rules.lm_weight * log_prob)
            to.lm += log_prob
        result.mass *= last_gain
        result.gain = to.gain * last_gain
        result.lm = to.lm
        complete += not result.is_cut
        found += 1
    if not 0 < complete < found:
        return found
    kept = 0
    for e in range(found):
        if not results[e].is_cut:
            results[kept] = results[e]
            kept += 1
    return kept


@inner
def _mass_of_spaced(nodes, slots, at, space):
    """Mass of the prefix that is one space longer, if it is in the beam."""
    child = nodes[at].child
    while child >= 0:
        slot = nodes[child].slot
        if nodes[child].token == space and slot >= 0:
            return slots[slot].blank + slots[slot].label
        child = nodes[child].sibling
    return 0.0


@kernel
def settled_node(nodes, root):
    """The last node that every prefix in the beam goes through."""
    at = root
    while nodes[at].slot < 0 and nodes[nodes[at].child].sibling < 0:
        at = nodes[at].child
    return at


@kernel
def trace(nodes, root, at, path):
    """Fill `path` with the nodes from below the root to `at`, last first; returns how many.

    Of a longer path than `path` holds only the number is right.
    """
    length = 0
    while at != root:
        if length < len(path):
            path[length] = at
        at = nodes[at].parent
        length += 1
    return length


@kernel
def advance_root(beam, at, number):
    """Make `at` the root, and forget the nodes above it and the lattice before frame `number`.

    The nodes above must have no other children: see `settled_node`.
    """
    state, nodes, slots = beam.state[0], beam.nodes, beam.slots
    above = np.int64(nodes[at].parent)
    while above != NOTHING:
        nodes[above].sibling = state.free
        state.free = above
        above = np.int64(nodes[above].parent)
    nodes[at].parent = NOTHING
    nodes[at].sibling = NOTHING
    state.root = at
    for i in range(state.size):
        slots[i].parent = nodes[slots[i].node].parent

    kept, entries = 0, 0
    for f in range(state.lattice):
        frame = beam.lattice[f]
        if frame.number >= number:
            first = entries
            for e in range(frame.first, frame.last):
                beam.entries[entries] = beam.entries[e]
                entries += 1
            moved = beam.lattice[kept]
            moved.number, moved.blank, moved.first, moved.last = (
                frame.number,
                frame.blank,
                first,
                entries,
            )
            kept += 1
    state.lattice = kept
    state.entries = entries


def align(lattice, entries, tokens, places):
    """The likeliest alignment of `tokens` with what the search tried: Viterbi over the lattice.

    Fills `places` (PLACE) with the first and last frame of each token and its greatest probability
    there. Returns False if the lattice does not hold the tokens.

    Blanks between tokens are free once every probability is divided by its frame's blank, so that
    a token costs one pass over the frames between the earliest and the latest where it can be.
    """
    n_tokens = len(tokens)
    if n_tokens == 0:
        return True
    first, last = np.zeros(n_tokens, np.int64), np.zeros(n_tokens, np.int64)
    if not _windows(lattice, entries, tokens, first, 1):
        return False
    if not _windows(lattice, entries, tokens, last, -1):
        return False
    offset = np.append(0, np.cumsum(np.maximum(0, last - first + 1)))
    score, origin = np.full(offset[-1], -np.inf), np.full(offset[-1], -1)
    _fill(lattice, entries, tokens, first, last, offset, score, origin)
    _follow(lattice, entries, tokens, first, offset, score, origin, places)
    return True


@kernel
def _fill(lattice, entries, tokens, first, last, offset, score, origin):
    """Best log-ratio of a path whose k-th token is last heard in a frame, and the frame where the
    token before was last heard, or CONTINUES if this one was heard in the frame before.
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
            chance = _chance(lattice, entries, f, tokens[k])
            if chance == 0.0:
                continue
            best, origin[at] = reached, reached_at
            if f > first[k] and adjacent and score[at - 1] >= best:
                best, origin[at] = score[at - 1], CONTINUES
            score[at] = best + math.log(chance / max(lattice[f].blank, LEAST_CHANCE))


@kernel
def _follow(lattice, entries, tokens, first, offset, score, origin, places):
    k = len(tokens) - 1
    best = offset[k]
    for at in range(offset[k], offset[k + 1]):
        if score[at] > score[best]:
            best = at
    f = first[k] + best - offset[k]
    while k >= 0:
        place = places[k]
        place.end = lattice[f].number
        place.chance = _chance(lattice, entries, f, tokens[k])
        while origin[offset[k] + f - first[k]] == CONTINUES:
            f -= 1
            place.chance = max(place.chance, _chance(lattice, entries, f, tokens[k]))
        place.start = lattice[f].number
        f = origin[offset[k] + f - first[k]]
        k -= 1


@kernel
def _windows(lattice, entries, tokens, bound, direction):
    """The earliest (direction 1) or latest (-1) frame of the lattice where each token can be."""
    f = 0 if direction > 0 else len(lattice) - 1
    k = 0 if direction > 0 else len(tokens) - 1
    for step in range(len(tokens)):
        if step > 0 and tokens[k] == tokens[k - direction] and 0 <= f < len(lattice):
            f += direction * (abs(lattice[f].number - lattice[f - direction].number) == 1)
        while 0 <= f < len(lattice) and _chance(lattice, entries, f, tokens[k]) == 0.0:
            f += direction
        if not 0 <= f < len(lattice):
            return False
        bound[k] = f
        f += direction
        k += direction
    return True


@inner
def _chance(lattice, entries, f, token):
    for e in range(lattice[f].first, lattice[f].last):
        if entries[e].token == token:
            return entries[e].chance
    return 0.0

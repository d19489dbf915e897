"""What a prefix may become in a frame: tokens worth trying, and new prefixes. Compiled."""

from __future__ import annotations

import numpy as np

from asr.compiled import inner
from asr.decode._prefixes import child_like, itself
from asr.decode._walk import ask, child_of, walk
from asr.decode.tables import MAX_TOKENS, NOTHING


@inner
def choose_tokens(row, rules, kinds, tried):
    """Fill `tried` with the tokens worth trying in a frame, at most MAX_TOKENS.

    First those that end a word, then those inside, the likeliest of each kind first. Returns the
    number of all, and of the first kind.
    """
    if row[rules.blank] >= rules.blank_skip:
        return 0, 0
    best = np.float32(0.0)
    for c in range(len(row)):
        best = max(best, row[c])
    least = max(best * rules.least_token, 1e-30)
    found, endings = 0, 0
    for c in range(len(row)):
        chance = row[c]
        if chance < least or c == rules.blank:
            continue
        first, k = endings, found
        if kinds[c].ends:
            first, k = 0, endings
        while k > first and tried[k - 1].chance < chance:
            k -= 1
        if k == MAX_TOKENS:
            continue
        found = min(found + 1, MAX_TOKENS)
        for later in range(found - 1, k, -1):
            tried[later] = tried[later - 1]
        tried[k].chance = chance
        tried[k].token = c
        endings += kinds[c].ends
    return found, min(endings, found)


@inner
def extend(beam, grammar, lm, tokens, endings, best, bar):
    """Collect the new prefixes that reach `bar`, which rises as better ones are found.

    Returns their number and the greatest mass of all.
    """
    nodes, slots, tried, candidates = beam.nodes, beam.slots, beam.tried, beam.candidates
    rules = grammar.rules[0]
    found = np.int64(0)
    for i in range(beam.state[0].size):
        slot = slots[i]
        k = -1
        while k + 1 < tokens:
            k += 1
            token = tried[k].token
            repeats = token == slot.token
            mass = (slot.blank if repeats else slot.total) * tried[k].chance
            if mass * (slot.most_ending if k < endings else slot.most_inside) < bar:
                if not repeats:  # nor will less likely tokens do
                    k = endings - 1 if k < endings else tokens
                continue
            is_taken = (slot.taken >> np.uint64(k)) & np.uint64(1) != 0
            if is_taken or (repeats and token == rules.space):
                continue
            candidate = candidates[found]
            walk(nodes[slot.node], token, grammar, lm, beam.memo, candidate)
            candidate.slot = i
            candidate.mass = mass * candidate.gain
            if candidate.mass < bar or candidate.mass == 0.0:
                continue
            found, best, bar = _take_in(beam, rules, candidate.mass, found, best, bar)
    return found, best


@inner
def extend_pronounced(beam, grammar, lm, tokens, best, bar):
    """`extend` where a token is a phone, with which a word may go on, or end, or both."""
    nodes, slots, tried, candidates = beam.nodes, beam.slots, beam.tried, beam.candidates
    rules, tree, words = grammar.rules[0], grammar.tree, grammar.words
    found = np.int64(0)
    for i in range(beam.state[0].size):
        slot = slots[i]
        node = nodes[slot.node]
        most = rules.most_hot * tree[node.place].most
        for k in range(tokens):
            token = tried[k].token
            mass = (slot.blank if token == slot.token else slot.total) * tried[k].chance
            if mass * most < bar:
                if token != slot.token:  # nor will less likely tokens do
                    break
                continue
            unit = grammar.units[grammar.tokens[token].first]
            place = child_of(tree, node.place, unit, rules.few_units)
            if place == NOTHING:
                continue
            arc = grammar.hot[node.hot, unit]
            end = grammar.hot[arc.next, rules.boundary]
            gain = arc.gain * tree[place].enter
            mass *= gain
            end_gain = end.gain * tree[place].leave
            is_taken = (slot.taken >> np.uint64(k)) & np.uint64(1) != 0
            first, last = tree[place].word_first, tree[place + 1].word_first
            for word in range(first - 1, last):  # before the first: the word goes on
                candidate = candidates[found]
                candidate.token, candidate.lm_state, candidate.lm = token, node.lm_state, 0.0
                if word < first:
                    if mass < bar or tree[place].children == 0:
                        continue
                    candidate.mass, candidate.gain = mass, gain
                    candidate.place, candidate.hot, candidate.word = place, arc.next, NOTHING
                else:
                    candidate.mass, candidate.gain = mass * end_gain, gain * end_gain
                    if candidate.mass * words[word].most < bar:
                        continue
                    candidate.mass *= words[word].gain
                    candidate.gain *= words[word].gain
                    candidate.place, candidate.hot, candidate.word = 0, end.next, word
                    if lm is not None:
                        lm_word = np.int64(words[word].lm_word)
                        answer = ask(lm, node.lm_state, lm_word, rules.lm_weight, beam.memo)
                        candidate.lm_state, candidate.lm = answer.next_state, answer.log_prob
                        candidate.mass *= answer.gain
                        candidate.gain *= answer.gain
                        if candidate.mass < bar:
                            continue
                if candidate.mass == 0.0 or (
                    is_taken and _is_in_beam(nodes, slot.node, token, candidate.word)
                ):
                    continue
                candidate.slot = i
                found, best, bar = _take_in(beam, rules, candidate.mass, found, best, bar)
    return found, best


@inner
def _take_in(beam, rules, mass, found, best, bar):
    """Count one more candidate, in its place already; the number, the best and the bar now."""
    found += 1
    if mass > best:
        best = mass
        bar = max(bar, best * rules.least)
    if found == len(beam.candidates):
        found, bar = _keep_best(beam.candidates, beam.ranked, found, rules.beam, bar)
    return found, best, bar


@inner
def _is_in_beam(nodes, parent, token, word):
    child = child_like(nodes, parent, token, word)
    return child >= 0 and nodes[itself(nodes, child)].slot >= 0


@inner
def _keep_best(candidates, ranked, found, wanted, bar):
    """Drop all but the best `wanted` candidates; returns their number and the least of them."""
    for j in range(found):
        ranked[j] = candidates[j].mass
    bar = max(bar, nth_largest(ranked, found, wanted))
    kept = 0
    for j in range(found):
        if candidates[j].mass >= bar and kept < wanted:
            candidates[kept] = candidates[j]
            kept += 1
    return kept, bar


@inner
def nth_largest(values, size, n):
    """The n-th largest of values[:size], which are left with the n largest in front (Hoare)."""
    low, high, n = 0, size - 1, n - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if n <= j:
            high = j
        elif n >= i:
            low = i
        else:
            break
    return values[n]

"""The compiled heart of the beam search: CTC prefix search over a tree of prefixes.

Everything is kept in the linear domain. A prefix holds the probability mass of the paths that end
in a blank and of those that end in its last symbol, each already multiplied by the weights of the
language model, bonuses and hot words up to here. Only ratios matter, so that a power of two brings
the masses back when they grow small, and one frame costs a few multiplications a prefix instead of
logarithms and exponentials.

A prefix is a node of a tree. A frame first updates every prefix in the beam from itself and from
its parent (a *pull*, so that no child is ever searched for), then weighs the prefixes that would
be new, cheapest test first, and lets in those among the best. Frames in which nothing but the
blank is likely change no order and cost next to nothing.

Where a lexicon of pronunciations says what may come, prefixes with the same future are merged:
see `asr.decode._prefixes`.

After A. Graves, "Supervised Sequence Labelling with Recurrent Neural Networks" (2012), 7.5, and
A. Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional
Recurrent DNNs" (2014).

State lives in arrays of records, few of them: every array that a compiled function takes costs
compile time.
"""

from __future__ import annotations

import math

import numpy as np

from asr.compiled import inner, kernel
from asr.decode._extend import choose_tokens, extend, extend_pronounced, nth_largest
from asr.decode._prefixes import (
    child_like,
    enter,
    find_alike,
    give_up_old_alternatives,
    itself,
    make_node,
    merge,
    put_greatest_first,
    release,
)
from asr.decode._walk import word_at
from asr.decode.tables import MAX_TOKENS, NOTHING, SMALL, SMALL_EXPONENT

LEAST_BLANK = 1e-30  # a blank of probability 0 would end the search


@kernel
def search(probabilities, begin, limit, beam, grammar, lm):
    """Take in rows of `probabilities` (frames, classes) float32 from `begin` on; words are spelled.

    `beam`, `grammar`: see `asr.decode.tables`; `lm`: tables of an n-gram model, or None. Returns
    the row reached. That is before the end where the nodes run out or the lattice holds `limit`
    frames: the caller makes room and calls again.
    """
    for t in range(begin, len(probabilities)):
        if _is_full(beam, grammar, limit):
            return t
        tokens, endings, best, bar = _stay(probabilities[t], beam, grammar)
        if tokens > 0:
            found, best = extend(beam, grammar, lm, tokens, endings, best, bar)
            _change(beam, grammar, tokens, found, best)
    return len(probabilities)


@kernel
def search_pronounced(probabilities, begin, limit, beam, grammar, lm):
    """`search` where words are pronounced: who needs the one does not wait for the other to be
    compiled.
    """
    for t in range(begin, len(probabilities)):
        if _is_full(beam, grammar, limit):
            return t
        tokens, _, best, bar = _stay(probabilities[t], beam, grammar)
        if tokens > 0:
            found, best = extend_pronounced(beam, grammar, lm, tokens, best, bar)
            _change(beam, grammar, tokens, found, best)
    return len(probabilities)


@inner
def _is_full(beam, grammar, limit):
    state = beam.state[0]
    return (
        state.lattice >= min(limit, len(beam.lattice))
        or state.used + grammar.rules[0].beam > len(beam.nodes)
        or state.entries + MAX_TOKENS > len(beam.entries)
    )


@inner
def _stay(row, beam, grammar):
    """What the prefixes of the beam have in the next frame, of probabilities `row`, without a
    further token.

    Returns how many tokens are worth trying (0: the frame is all blank, and done), how many of
    them end a word, the greatest mass, and the least that a new prefix needs.
    """
    state, nodes, slots, tried = beam.state[0], beam.nodes, beam.slots, beam.tried
    rules = grammar.rules[0]
    size = state.size
    tokens, endings = choose_tokens(row, rules, grammar.tokens, tried)
    blank_chance = max(float(row[rules.blank]), LEAST_BLANK)
    state.frames += 1
    if tokens == 0:
        if not state.rests:
            for i in range(size):
                slots[i].blank += slots[i].label
                slots[i].label = 0.0
            state.rests = True
        state.passed += math.log(blank_chance)
        state.scale *= blank_chance
        if state.scale < SMALL:
            state.scale /= SMALL
            state.exponent += SMALL_EXPONENT
        return tokens, endings, 0.0, 0.0
    state.rests = False

    # Remember what is tried, for the alignment of the words found.
    frame = beam.lattice[state.lattice]
    frame.number, frame.first, frame.blank = state.frames - 1, state.entries, blank_chance
    state.lattice += 1
    for k in range(tokens):
        beam.entries[state.entries] = tried[k]
        state.entries += 1
        tried[k].chance *= state.scale
        beam.row[tried[k].token] = tried[k].chance
    frame.last = state.entries
    blank_chance *= state.scale

    # Prefixes that stay: a blank, or the last token again, or their parent's extension.
    best, worst = 0.0, math.inf
    for i in range(size):
        slots[i].total = slots[i].blank + slots[i].label
        slots[i].taken = 0
    for i in range(size):
        slot = slots[i]
        slot.next_blank = slot.total * blank_chance
        slot.next_label = 0.0
        chance = beam.row[slot.token]
        if chance > 0.0:
            # A second space adds nothing to a text: "a " and "a  " are one prefix.
            again = slot.total if slot.token == rules.space else slot.label
            slot.next_label = again * chance
            k = 0
            while tried[k].token != slot.token:
                k += 1
            if rules.unmarked and nodes[slot.node].merged >= 0:
                _pull_from_all(nodes, slots, i, k, chance)
            else:
                slot.next_label += slot.gain * _pull(nodes, slots, slot.parent, k, slot, chance)
        score = slot.next_blank + slot.next_label
        best = max(best, score)
        worst = min(worst, score)

    bar = best * rules.least
    if size == rules.beam:
        bar = max(bar, worst)
    return tokens, endings, best, bar


@inner
def _change(beam, grammar, tokens, found, best):
    """End a frame: let the best of old and new prefixes into the beam."""
    state, rules = beam.state[0], grammar.rules[0]
    for k in range(tokens):
        beam.row[beam.tried[k].token] = 0.0
    best = _update(beam, grammar, found, best * rules.least)
    if state.frames >= state.next_look_back:
        give_up_old_alternatives(state, beam.nodes, beam.slots)
    state.scale = 1.0
    if best < SMALL:
        state.scale = 1.0 / SMALL
        state.exponent += SMALL_EXPONENT


@inner
def _pull(nodes, slots, parent, k, slot, chance):
    """What the extension of a prefix by the k-th token tried brings, its gain left out."""
    if parent < 0 or nodes[parent].slot < 0:
        return 0.0
    source = slots[nodes[parent].slot]
    source.taken |= np.uint64(1) << np.uint64(k)
    return (source.blank if source.token == slot.token else source.total) * chance


@inner
def _pull_from_all(nodes, slots, i, k, chance):
    """Let a prefix into which others are merged have what all their parents bring."""
    slot = slots[i]
    stays = slot.next_blank + slot.next_label
    brought = slot.gain * _pull(nodes, slots, slot.parent, k, slot, chance)
    at = nodes[slot.node].merged
    while at >= 0:
        brought += nodes[at].gain * _pull(nodes, slots, nodes[at].parent, k, slot, chance)
        at = nodes[at].merged
    if brought == 0.0:
        return
    slot.next_label += brought
    at = nodes[slot.node].merged
    while at >= 0:
        mass = nodes[at].gain * _pull(nodes, slots, nodes[at].parent, k, slot, chance)
        nodes[at].share = (nodes[at].share * stays + mass) / (stays + brought)
        at = nodes[at].merged
    put_greatest_first(nodes, slots, np.int64(slot.node))


@inner
def _update(beam, grammar, found, bar):
    """Let the best of old and new prefixes into the beam; returns the greatest mass."""
    state, nodes, slots = beam.state[0], beam.nodes, beam.slots
    candidates, ranked = beam.candidates, beam.ranked
    rules = grammar.rules[0]
    size, width = state.size, rules.beam
    passing = np.int64(0)
    for i in range(size):
        ranked[passing] = slots[i].next_blank + slots[i].next_label
        passing += ranked[passing] >= bar
    for j in range(found):
        ranked[passing] = candidates[j].mass
        passing += ranked[passing] >= bar
    ties = passing  # how many of those equal to the bar may pass
    if passing > width:
        bar = nth_largest(ranked, passing, width)
        ties = width
        for r in range(width):
            ties -= ranked[r] > bar

    best = 0.0
    vacancies = 0
    for i in range(size):
        slot = slots[i]
        score = slot.next_blank + slot.next_label
        if score > bar or (score == bar and ties > 0):
            ties -= score == bar
            best = max(best, score)
            slot.blank = slot.next_blank
            slot.label = slot.next_label
            if rules.unmarked:
                enter(beam, np.int64(slot.node), NOTHING)
        else:
            slots[vacancies].vacant = i
            vacancies += 1
    # New nodes first, then the dropped ones: a dropped prefix may live on in its extensions.
    made = np.int64(0)
    for j in range(found):
        score = candidates[j].mass
        if score > bar or (score == bar and ties > 0):
            ties -= score == bar
            made, total = _admit(beam, candidates[j], made, rules)
            best = max(best, total)
    for v in range(vacancies):
        dropped = np.int64(slots[slots[v].vacant].node)
        nodes[dropped].slot = NOTHING
        release(state, nodes, dropped)

    for n in range(made):
        to = size
        if n < vacancies:
            to = np.int64(slots[n].vacant)
        else:
            size += 1
        _occupy(nodes, candidates[n].slot, slots, to, rules, grammar.tree, grammar.words)
        slots[to].blank = 0.0
        slots[to].label = candidates[n].mass
    for v in range(vacancies - 1, made - 1, -1):  # close the gaps with the last ones
        to = np.int64(slots[v].vacant)
        size -= 1
        if to != size:
            _occupy(nodes, slots[size].node, slots, to, rules, grammar.tree, grammar.words)
            slots[to].blank = slots[size].blank
            slots[to].label = slots[size].label
    state.size = size
    return best


@inner
def _occupy(nodes, at, slots, i, rules, tree, words):
    """Put the prefix of node `at` into slot i of the beam."""
    node, slot = nodes[at], slots[i]
    node.slot = i
    slot.node, slot.token, slot.parent, slot.gain = at, node.token, node.parent, node.gain
    if rules.unmarked:  # these need no bounds
        return
    slot.most_inside, slot.most_ending = rules.most_hot, rules.most_hot * rules.leave_unknown
    leave = 1.0
    if node.place >= 0:
        leave = tree[node.place].leave
        # Where the words below are rarer than an unknown one, to leave the lexicon is a gain.
        slot.most_inside *= max(1.0, leave * rules.most_fall)
        if node.place == 0:
            slot.most_inside *= rules.most_bonus
        slot.most_ending = rules.most_hot * leave
        word = word_at(node.place, tree)
        slot.most_ending *= words[word].most if word >= 0 else rules.most_unknown
    slot.most_ending *= rules.most_bonus


@inner
def _admit(beam, candidate, made, rules):
    """Make the candidate a node, of the first `made` candidates the last, or merge it.

    Returns the number of candidates made now, and the mass of the prefix that it has become.
    """
    state, nodes, slots = beam.state[0], beam.nodes, beam.slots
    candidates, parent, mass = beam.candidates, slots[candidate.slot].node, candidate.mass
    at = child_like(nodes, parent, candidate.token, candidate.word)
    fresh = at < 0  # or else it is still in the tree
    at = np.int64(make_node(state, nodes, parent, candidate)) if fresh else itself(nodes, at)
    if rules.unmarked:
        node = nodes[at]
        after, same = np.int64(nodes[parent].frame), NOTHING if fresh else at
        h = find_alike(beam, node.place, node.lm_state, node.hot, node.token, after, same)
        if h >= 0:
            into, other = np.int64(beam.alike[h].node), beam.alike[h].made
            if other >= 0:
                candidates[other].mass += mass
                total = candidates[other].mass
            else:
                slots[nodes[into].slot].label += mass
                total = slots[nodes[into].slot].blank + slots[nodes[into].slot].label
            if fresh:
                merge(nodes, slots, at, into, mass, total)
            return made, total
        enter(beam, at, made)
    if not fresh:
        nodes[at].uses += 1
    candidates[made].mass, candidates[made].slot = mass, at
    return made + 1, mass

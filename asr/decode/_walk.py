"""Where a token leads: through the lexicon, the hot words and the language model. Compiled."""

from __future__ import annotations

import math

import numpy as np

from asr.compiled import inner
from asr.decode.tables import MEMO_BITS, NOTHING, PROTECTED, UNKNOWN
from asr.lm.ngram import ngram_score


@inner
def walk(origin, token, grammar, lm, memo, to):
    """Set `to` to where a token leads from the node `origin`; a gain of 0 is nowhere."""
    to.token, to.word = token, NOTHING
    to.place, to.lm_state, to.hot = origin.place, origin.lm_state, origin.hot
    to.gain, to.lm = 1.0, 0.0
    rules = grammar.rules[0]
    for u in range(grammar.tokens[token].first, grammar.tokens[token].last):
        unit = grammar.units[u]
        if unit != rules.boundary:
            _step(unit, grammar, rules, to)
        elif to.place != 0:
            end_word(word_at(to.place, grammar.tree), grammar, lm, memo, to)
        if to.gain == 0.0:
            return


@inner
def _step(unit, grammar, rules, to):
    """One unit further inside a word."""
    tree, arc = grammar.tree, grammar.hot[to.hot, unit]
    to.gain *= arc.gain
    to.hot = arc.next
    place = to.place
    if place >= 0:
        child = child_of(tree, place, unit, rules.few_units)
        if child >= 0:
            to.place = child
            to.gain *= tree[child].enter
            return
        to.place = PROTECTED
        if rules.closed:
            to.gain = 0.0
        to.gain *= tree[place].leave * rules.fall
        if place == 0:
            to.gain *= rules.bonus
    # Unknown to the lexicon: as long as a hot word vouches for it, that costs nothing.
    if to.place == PROTECTED and not arc.begun:
        to.place = UNKNOWN
        to.gain *= rules.unknown


@inner
def child_of(tree, place, unit, few_units):
    """The node that a unit leads to, or NOTHING."""
    bit = np.uint64(1) << np.uint64(unit & 63)
    if tree[place].children & bit == 0:
        return NOTHING
    if few_units:  # the children are sorted: count those before
        before = tree[place].children & (bit - np.uint64(1))
        # This pattern compiles to the machine's population count.
        before -= (before >> np.uint64(1)) & np.uint64(0x5555555555555555)
        pairs = np.uint64(0x3333333333333333)
        before = (before & pairs) + ((before >> np.uint64(2)) & pairs)
        before = (before + (before >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        return tree[place].first + np.int64(
            (before * np.uint64(0x0101010101010101)) >> np.uint64(56)
        )
    low, high = np.int64(tree[place].first), np.int64(tree[place + 1].first)
    while low < high:
        middle = (low + high) >> 1
        if tree[middle].label < unit:
            low = middle + 1
        else:
            high = middle
    return low if low < tree[place + 1].first and tree[low].label == unit else NOTHING


@inner
def word_at(place, tree):
    """The first word that ends at a place of the lexicon, or NOTHING."""
    if place < 0 or tree[place].word_first == tree[place + 1].word_first:
        return np.int64(NOTHING)
    return np.int64(tree[place].word_first)


@inner
def end_word(word, grammar, lm, memo, to):
    """Let the word at `to` end; `word` is its entry in the lexicon, or NOTHING if it lacks it."""
    rules = grammar.rules[0]
    arc = grammar.hot[to.hot, rules.boundary]
    place = to.place
    if place >= 0:
        to.gain *= grammar.tree[place].leave
    else:
        to.gain *= rules.leave_unknown
    if word == NOTHING:
        if rules.closed:
            to.gain = 0.0
        if place != UNKNOWN and not arc.begun:
            to.gain *= rules.unknown
    else:
        to.gain *= grammar.words[word].gain
    to.gain *= arc.gain
    to.hot = arc.next
    to.place = 0
    if lm is None or to.gain == 0.0:
        return
    lm_word = grammar.words[word].lm_word if word != NOTHING else rules.lm_unknown
    answer = ask(lm, to.lm_state, lm_word, rules.lm_weight, memo)
    to.lm_state = answer.next_state
    to.gain *= answer.gain
    to.lm += answer.log_prob


@inner
def ask(lm, state, word, weight, memo):
    """The model's answer (MEMO), which is remembered: frame after frame, many prefixes ask the
    same."""
    mixed = np.uint64(state) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(word)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    known = memo[mixed >> np.uint64(64 - MEMO_BITS)]
    if known.state != state or known.word != word:
        known.log_prob, known.next_state = ngram_score(lm, state, word)
        known.state, known.word = state, word
        known.gain = math.exp(weight * known.log_prob)
    return known

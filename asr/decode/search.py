"""The compiled beam search: in each frame propagate, expand, prune.

Masses are linear, not logarithms: a prefix holds the mass of its paths that end in a blank and of
those that end in its last token, each already multiplied by the weights of language model, bonuses
and hot words. Only ratios matter; a power of two brings the masses back when they grow small. So a
frame costs a few multiplications a prefix.

*Propagate* updates every prefix of the beam from itself and from its parent (so no child is ever
searched for). *Expand* weighs the prefixes that would be new, cheapest test first. *Prune* keeps
the best of old and new. Frames in which only the blank is probable change no order and cost next to
nothing. Where words are pronounced, prefixes with one future are recombined
(`asr.decode.prefix_tree`).

After A. Graves, "Supervised Sequence Labelling with Recurrent Neural Networks" (2012), 7.5, and
A. Hannun et al., "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional
Recurrent DNNs" (2014).
"""

from __future__ import annotations

import math

import numpy as np

from asr.compiled import inner, kernel
from asr.decode.prefix_tree import (
    LM_CACHE_BITS,
    MAX_TOKENS,
    NOTHING,
    PROTECTED,
    SMALL,
    SMALL_EXPONENT,
    UNKNOWN,
    drop_old_alternatives,
    enter,
    find_child,
    find_same_future,
    make_node,
    promote_greatest,
    recombine,
    release,
    representative,
)
from asr.lm.ngram import ngram_score

MIN_BLANK = 1e-30  # a blank of probability 0 would end the search


@kernel
def search(probabilities, begin, limit, beam, grammar, lm):
    """Take in rows of `probabilities` (frames, classes) float32 from `begin` on; words are spelled.

    `beam`, `grammar`: see `asr.decode.prefix_tree`; `lm`: tables of an n-gram model, or None.
    Returns the row reached. That is before the end where the nodes run out or the lattice holds
    `limit` frames: the caller makes room and calls again.
    """
    for t in range(begin, len(probabilities)):
        if _is_full(beam, grammar, limit):
            return t
        tokens, endings, best, bar = _propagate(probabilities[t], beam, grammar)
        if tokens > 0:
            found, best = _expand(beam, grammar, lm, tokens, endings, best, bar)
            _end_frame(beam, grammar, tokens, found, best)
    return len(probabilities)


@kernel
def search_pronounced(probabilities, begin, limit, beam, grammar, lm):
    """`search` where words are pronounced: compiled by itself, so that nobody waits for both."""
    for t in range(begin, len(probabilities)):
        if _is_full(beam, grammar, limit):
            return t
        tokens, _, best, bar = _propagate(probabilities[t], beam, grammar)
        if tokens > 0:
            found, best = _expand_pronounced(beam, grammar, lm, tokens, best, bar)
            _end_frame(beam, grammar, tokens, found, best)
    return len(probabilities)


@kernel
def finish(beam, grammar, lm, paths):
    """Fill `paths` (PATH) with the ways in which the utterance may end; returns how many.

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
        path = paths[found]
        to.lexicon_node, to.lm_state = node.lexicon_node, node.lm_state
        to.hotword_state, to.weight, to.lm_log_prob = node.hotword_state, 1.0, 0.0
        path.node, path.base, path.detour = at, NOTHING, NOTHING
        path.is_cut, path.is_expanded = False, False
        if node.lexicon_node != 0:
            word = NOTHING if rules.pronounced else _word_at(node.lexicon_node, grammar.lexicon)
            _end_word(word, grammar, lm, beam.lm_cache, to)
            if to.weight == 0.0:
                path.is_cut = True
                to.weight = grammar.lexicon[node.lexicon_node].leave
        path.mass = (slots[i].blank + slots[i].label) * to.weight
        path.mass += _mass_of_spaced(nodes, slots, at, rules.space)
        path.last_lm = to.lm_log_prob
        last = float(grammar.hotwords[to.hotword_state, grammar.hotwords.shape[1] - 1].weight)
        if lm is not None:
            log_prob, _ = ngram_score(lm, to.lm_state, rules.lm_end)
            last *= math.exp(rules.lm_weight * log_prob)
            to.lm_log_prob += log_prob
        path.mass *= last
        path.end_weight, path.end_lm = to.weight * last, to.lm_log_prob
        complete += not path.is_cut
        found += 1
    if not 0 < complete < found:
        return found
    kept = 0
    for e in range(found):
        if not paths[e].is_cut:
            paths[kept] = paths[e]
            kept += 1
    return kept


@inner
def _mass_of_spaced(nodes, slots, at, space):
    """Mass of the prefix that is one space longer, if it is in the beam."""
    child = nodes[at].first_child
    while child >= 0:
        slot = nodes[child].slot
        if nodes[child].token == space and slot >= 0:
            return slots[slot].blank + slots[slot].label
        child = nodes[child].next_sibling
    return 0.0


@inner
def _is_full(beam, grammar, limit):
    state = beam.state[0]
    return (
        state.lattice_frames >= min(limit, len(beam.lattice))
        or state.n_nodes + grammar.rules[0].beam > len(beam.nodes)
        or state.lattice_entries + MAX_TOKENS > len(beam.entries)
    )


# Propagate.


@inner
def _propagate(row, beam, grammar):
    """What the prefixes of the beam have after a frame, of probabilities `row`, without a further
    token.

    Returns how many tokens are worth trying (0: the frame is all blank, and done), how many of
    them end a word, the greatest mass, and the bar that a new prefix must reach.
    """
    nodes, slots, tried, rules = beam.nodes, beam.slots, beam.tried, grammar.rules[0]
    state, size = beam.state[0], beam.state[0].size
    tokens, endings = _choose_tokens(row, rules, grammar.tokens, tried)
    blank = max(float(row[rules.blank]), MIN_BLANK)
    state.frames += 1
    if tokens == 0:
        for i in range(0 if state.only_blank else size):
            slots[i].blank += slots[i].label
            slots[i].label = 0.0
        state.only_blank = True
        state.skipped += math.log(blank)
        state.scale *= blank
        if state.scale < SMALL:
            state.scale /= SMALL
            state.exponent += SMALL_EXPONENT
        return tokens, endings, 0.0, 0.0
    state.only_blank = False
    _remember(beam, tokens, blank)
    blank *= state.scale
    best, worst = 0.0, math.inf
    for i in range(size):
        slots[i].total = slots[i].blank + slots[i].label
        slots[i].extended = 0
    for i in range(size):
        slot = slots[i]
        slot.next_blank = slot.total * blank
        slot.next_label = 0.0
        probability = beam.row[slot.token]
        if probability > 0.0:
            # A second space adds nothing to a text: "a " and "a  " are one prefix.
            again = slot.total if slot.token == rules.space else slot.label
            slot.next_label = again * probability
            k = 0
            while tried[k].token != slot.token:
                k += 1
            if rules.pronounced and nodes[slot.node].next_recombined >= 0:
                _pull_from_all(nodes, slots, i, k, probability)
            else:
                slot.next_label += slot.weight * _pull(
                    nodes, slots, slot.parent, k, slot, probability
                )
        score = slot.next_blank + slot.next_label
        best = max(best, score)
        worst = min(worst, score)
    bar = best * rules.beam_ratio
    if size == rules.beam:
        bar = max(bar, worst)
    return tokens, endings, best, bar


@inner
def _choose_tokens(row, rules, kinds, tried):
    """Fill `tried` with the tokens worth trying in a frame, at most MAX_TOKENS.

    First those that end a word, then those inside, the most probable of each kind first. Returns
    the number of all, and of the first kind.
    """
    if row[rules.blank] >= rules.blank_skip:
        return 0, 0
    best = np.float32(0.0)
    for c in range(len(row)):
        best = max(best, row[c])
    threshold = max(best * rules.token_ratio, 1e-30)
    found, endings = 0, 0
    for c in range(len(row)):
        probability = row[c]
        if probability < threshold or c == rules.blank:
            continue
        first, k = endings, found
        if kinds[c].ends:
            first, k = 0, endings
        while k > first and tried[k - 1].probability < probability:
            k -= 1
        if k == MAX_TOKENS:
            continue
        found = min(found + 1, MAX_TOKENS)
        for later in range(found - 1, k, -1):
            tried[later] = tried[later - 1]
        tried[k].probability = probability
        tried[k].token = c
        endings += kinds[c].ends
    return found, min(endings, found)


@inner
def _remember(beam, tokens, blank):
    """Put what is tried into the lattice, for the alignment of the words found; then scale it."""
    state, tried = beam.state[0], beam.tried
    frame = beam.lattice[state.lattice_frames]
    frame.number, frame.first, frame.blank = state.frames - 1, state.lattice_entries, blank
    state.lattice_frames += 1
    for k in range(tokens):
        beam.entries[state.lattice_entries] = tried[k]
        state.lattice_entries += 1
        tried[k].probability *= state.scale
        beam.row[tried[k].token] = tried[k].probability
    frame.last = state.lattice_entries


@inner
def _pull(nodes, slots, parent, k, slot, probability):
    """What the extension of a prefix by the k-th token tried brings, its weight left out."""
    if parent < 0 or nodes[parent].slot < 0:
        return 0.0
    source = slots[nodes[parent].slot]
    source.extended |= np.uint64(1) << np.uint64(k)
    return (source.blank if source.token == slot.token else source.total) * probability


@inner
def _pull_from_all(nodes, slots, i, k, probability):
    """Let a survivor have what its own parent and those of all recombined with it bring."""
    slot = slots[i]
    stays = slot.next_blank + slot.next_label
    brought = slot.weight * _pull(nodes, slots, slot.parent, k, slot, probability)
    at = nodes[slot.node].next_recombined
    while at >= 0:
        brought += nodes[at].weight * _pull(nodes, slots, nodes[at].parent, k, slot, probability)
        at = nodes[at].next_recombined
    if brought == 0.0:
        return
    slot.next_label += brought
    at = nodes[slot.node].next_recombined
    while at >= 0:
        mass = nodes[at].weight * _pull(nodes, slots, nodes[at].parent, k, slot, probability)
        nodes[at].share = (nodes[at].share * stays + mass) / (stays + brought)
        at = nodes[at].next_recombined
    promote_greatest(nodes, slots, np.int64(slot.node))


# Expand.


@inner
def _expand(beam, grammar, lm, tokens, endings, best, bar):
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
            mass = (slot.blank if repeats else slot.total) * tried[k].probability
            if mass * (slot.max_ending if k < endings else slot.max_inside) < bar:
                if not repeats:  # nor will less probable tokens do
                    k = endings - 1 if k < endings else tokens
                continue
            is_extended = (slot.extended >> np.uint64(k)) & np.uint64(1) != 0
            if is_extended or (repeats and token == rules.space):
                continue
            candidate = candidates[found]
            _step(nodes[slot.node], token, grammar, lm, beam.lm_cache, candidate)
            candidate.slot = i
            candidate.mass = mass * candidate.weight
            if candidate.mass < bar or candidate.mass == 0.0:
                continue
            found, best, bar = _take_in(beam, rules, candidate.mass, found, best, bar)
    return found, best


@inner
def _expand_pronounced(beam, grammar, lm, tokens, best, bar):
    """`_expand` where a token is a phone, with which a word may continue, or end, or both."""
    nodes, slots, tried, candidates = beam.nodes, beam.slots, beam.tried, beam.candidates
    rules, lexicon, words = grammar.rules[0], grammar.lexicon, grammar.words
    found = np.int64(0)
    for i in range(beam.state[0].size):
        slot = slots[i]
        node = nodes[slot.node]
        max_step = rules.max_hotword * lexicon[node.lexicon_node].max_step
        for k in range(tokens):
            token = tried[k].token
            mass = (slot.blank if token == slot.token else slot.total) * tried[k].probability
            if mass * max_step < bar:
                if token != slot.token:  # nor will less probable tokens do
                    break
                continue
            unit = grammar.units[grammar.tokens[token].first]
            at = _child(lexicon, node.lexicon_node, unit, rules.few_units)
            if at == NOTHING:
                continue
            arc = grammar.hotwords[node.hotword_state, unit]
            end = grammar.hotwords[arc.next, rules.boundary]
            weight = arc.weight * lexicon[at].enter
            mass *= weight
            end_weight = end.weight * lexicon[at].leave
            is_extended = (slot.extended >> np.uint64(k)) & np.uint64(1) != 0
            first, last = lexicon[at].word_first, lexicon[at + 1].word_first
            for word in range(first - 1, last):  # before the first: the word continues
                candidate = candidates[found]
                candidate.token, candidate.lm_state = token, node.lm_state
                candidate.lm_log_prob = 0.0
                if word < first:
                    if mass < bar or lexicon[at].children == 0:
                        continue
                    candidate.mass, candidate.weight = mass, weight
                    candidate.lexicon_node, candidate.hotword_state = at, arc.next
                    candidate.word = NOTHING
                else:
                    candidate.mass, candidate.weight = mass * end_weight, weight * end_weight
                    if candidate.mass * words[word].max_weight < bar:
                        continue
                    candidate.lexicon_node, candidate.hotword_state = 0, end.next
                    if not _say_word(candidate, words, word, lm, beam.lm_cache, rules, bar):
                        continue
                if candidate.mass == 0.0 or (
                    is_extended and _is_in_beam(nodes, slot.node, token, candidate.word)
                ):
                    continue
                candidate.slot = i
                found, best, bar = _take_in(beam, rules, candidate.mass, found, best, bar)
    return found, best


@inner
def _say_word(candidate, words, word, lm, lm_cache, rules, bar):
    """Let a pronounced word end; whether the candidate still reaches the bar."""
    candidate.mass *= words[word].weight
    candidate.weight *= words[word].weight
    candidate.word = word
    if lm is None:
        return True
    lm_word = np.int64(words[word].lm_word)
    answer = _ask(lm, candidate.lm_state, lm_word, rules.lm_weight, lm_cache)
    candidate.lm_state, candidate.lm_log_prob = answer.next_state, answer.log_prob
    candidate.mass *= answer.weight
    candidate.weight *= answer.weight
    return candidate.mass >= bar


@inner
def _take_in(beam, rules, mass, found, best, bar):
    """Count one more candidate, already stored; the number, the best and the bar now."""
    found += 1
    if mass > best:
        best = mass
        bar = max(bar, best * rules.beam_ratio)
    if found == len(beam.candidates):
        found, bar = _keep_best(beam.candidates, beam.ranked, found, rules.beam, bar)
    return found, best, bar


@inner
def _keep_best(candidates, ranked, found, count, bar):
    """Drop all but the best `count` candidates; returns their number and the least of them."""
    for j in range(found):
        ranked[j] = candidates[j].mass
    bar = max(bar, _nth_largest(ranked, found, count))
    kept = 0
    for j in range(found):
        if candidates[j].mass >= bar and kept < count:
            candidates[kept] = candidates[j]
            kept += 1
    return kept, bar


@inner
def _is_in_beam(nodes, parent, token, word):
    child = find_child(nodes, parent, token, word)
    return child >= 0 and nodes[representative(nodes, child)].slot >= 0


@inner
def _nth_largest(values, size, n):
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


# Steps through the lexicon, the hot words and the language model.


@inner
def _step(origin, token, grammar, lm, lm_cache, to):
    """Set `to` to where a token leads from the node `origin`; a weight of 0 is nowhere."""
    to.token, to.word, to.lexicon_node = token, NOTHING, origin.lexicon_node
    to.lm_state, to.hotword_state = origin.lm_state, origin.hotword_state
    to.weight, to.lm_log_prob = 1.0, 0.0
    rules = grammar.rules[0]
    for u in range(grammar.tokens[token].first, grammar.tokens[token].last):
        unit = grammar.units[u]
        if unit != rules.boundary:
            _spell(unit, grammar, rules, to)
        elif to.lexicon_node != 0:
            _end_word(_word_at(to.lexicon_node, grammar.lexicon), grammar, lm, lm_cache, to)
        if to.weight == 0.0:
            return


@inner
def _spell(unit, grammar, rules, to):
    """One unit further inside a word."""
    lexicon, arc = grammar.lexicon, grammar.hotwords[to.hotword_state, unit]
    to.weight *= arc.weight
    to.hotword_state = arc.next
    at = to.lexicon_node
    if at >= 0:
        child = _child(lexicon, at, unit, rules.few_units)
        if child >= 0:
            to.lexicon_node = child
            to.weight *= lexicon[child].enter
            return
        to.lexicon_node = PROTECTED
        if rules.closed:
            to.weight = 0.0
        to.weight *= lexicon[at].leave * rules.leave_lexicon
        if at == 0:
            to.weight *= rules.word_bonus
    # Unknown to the lexicon: inside a hot phrase that costs nothing.
    if to.lexicon_node == PROTECTED and not arc.inside:
        to.lexicon_node = UNKNOWN
        to.weight *= rules.unknown


@inner
def _child(lexicon, at, unit, few_units):
    """The lexicon node that a unit leads to, or NOTHING."""
    bit = np.uint64(1) << np.uint64(unit & 63)
    if lexicon[at].children & bit == 0:
        return NOTHING
    if few_units:  # the children are sorted: count those before
        before = lexicon[at].children & (bit - np.uint64(1))
        # This pattern compiles to the machine's population count.
        before -= (before >> np.uint64(1)) & np.uint64(0x5555555555555555)
        pairs = np.uint64(0x3333333333333333)
        before = (before & pairs) + ((before >> np.uint64(2)) & pairs)
        before = (before + (before >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        count = (before * np.uint64(0x0101010101010101)) >> np.uint64(56)
        return lexicon[at].first + np.int64(count)
    low, high = np.int64(lexicon[at].first), np.int64(lexicon[at + 1].first)
    while low < high:
        middle = (low + high) >> 1
        if lexicon[middle].label < unit:
            low = middle + 1
        else:
            high = middle
    return low if low < lexicon[at + 1].first and lexicon[low].label == unit else NOTHING


@inner
def _word_at(at, lexicon):
    """The first word that ends at a lexicon node, or NOTHING."""
    if at < 0 or lexicon[at].word_first == lexicon[at + 1].word_first:
        return np.int64(NOTHING)
    return np.int64(lexicon[at].word_first)


@inner
def _end_word(word, grammar, lm, lm_cache, to):
    """Let the word at `to` end; `word` is its entry in the lexicon, or NOTHING if it lacks it."""
    rules = grammar.rules[0]
    arc = grammar.hotwords[to.hotword_state, rules.boundary]
    at = to.lexicon_node
    to.weight *= grammar.lexicon[at].leave if at >= 0 else rules.leave_unknown
    if word == NOTHING:
        if rules.closed:
            to.weight = 0.0
        if at != UNKNOWN and not arc.inside:
            to.weight *= rules.unknown
    else:
        to.weight *= grammar.words[word].weight
    to.weight *= arc.weight
    to.hotword_state = arc.next
    to.lexicon_node = 0
    if lm is None or to.weight == 0.0:
        return
    lm_word = grammar.words[word].lm_word if word != NOTHING else rules.lm_unknown
    answer = _ask(lm, to.lm_state, lm_word, rules.lm_weight, lm_cache)
    to.lm_state = answer.next_state
    to.weight *= answer.weight
    to.lm_log_prob += answer.log_prob


@inner
def _ask(lm, state, word, weight, lm_cache):
    """The model's answer (LM_CACHE): frame after frame, many prefixes ask the same."""
    mixed = np.uint64(state) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(word)
    mixed *= np.uint64(0xD6E8FEB86659FD93)
    known = lm_cache[mixed >> np.uint64(64 - LM_CACHE_BITS)]
    if known.state != state or known.word != word:
        known.log_prob, known.next_state = ngram_score(lm, state, word)
        known.state, known.word = state, word
        known.weight = math.exp(weight * known.log_prob)
    return known


# Prune.


@inner
def _end_frame(beam, grammar, tokens, found, best):
    """Let the best of old and new prefixes into the beam, and keep the numbers in range."""
    state, rules = beam.state[0], grammar.rules[0]
    for k in range(tokens):
        beam.row[beam.tried[k].token] = 0.0
    best = _prune(beam, grammar, found, best * rules.beam_ratio)
    if state.frames >= state.next_horizon:
        drop_old_alternatives(state, beam.nodes, beam.slots)
    state.scale = 1.0
    if best < SMALL:
        state.scale = 1.0 / SMALL
        state.exponent += SMALL_EXPONENT


@inner
def _prune(beam, grammar, found, bar):
    """Let the best of old and new prefixes into the beam; returns the greatest mass."""
    state, nodes, slots, rules = beam.state[0], beam.nodes, beam.slots, grammar.rules[0]
    candidates, ranked, passing = beam.candidates, beam.ranked, np.int64(0)
    for i in range(state.size):
        ranked[passing] = slots[i].next_blank + slots[i].next_label
        passing += ranked[passing] >= bar
    for j in range(found):
        ranked[passing] = candidates[j].mass
        passing += ranked[passing] >= bar
    ties = passing  # how many of those that equal the bar may pass
    if passing > rules.beam:
        bar = _nth_largest(ranked, passing, rules.beam)
        ties = rules.beam
        for r in range(rules.beam):
            ties -= ranked[r] > bar
    best = 0.0
    vacancies = 0
    for i in range(state.size):
        slot = slots[i]
        score = slot.next_blank + slot.next_label
        if score > bar or (score == bar and ties > 0):
            ties -= score == bar
            best = max(best, score)
            slot.blank = slot.next_blank
            slot.label = slot.next_label
            if rules.pronounced:
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
    _fill_slots(beam, grammar, made, vacancies)
    return best


@inner
def _admit(beam, candidate, made, rules):
    """Make the candidate a node, of the first `made` candidates the last, or recombine it.

    Returns the number of candidates made now, and the mass of the prefix that it has become.
    """
    state, nodes, slots = beam.state[0], beam.nodes, beam.slots
    candidates, parent, mass = beam.candidates, slots[candidate.slot].node, candidate.mass
    at = find_child(nodes, parent, candidate.token, candidate.word)
    fresh = at < 0  # or else it is still in the tree
    if fresh:
        at = np.int64(make_node(state, nodes, parent, candidate))
    else:
        at = representative(nodes, at)
    if rules.pronounced:
        after, same = np.int64(nodes[parent].frame), NOTHING if fresh else at
        h = find_same_future(beam, at, after, same)
        if h >= 0:
            into, other = np.int64(beam.recombination[h].node), beam.recombination[h].candidate
            if other >= 0:
                candidates[other].mass += mass
                total = candidates[other].mass
            else:
                slots[nodes[into].slot].label += mass
                total = slots[nodes[into].slot].blank + slots[nodes[into].slot].label
            if fresh:
                recombine(nodes, slots, at, into, mass, total)
            return made, total
        enter(beam, at, made)
    if not fresh:
        nodes[at].uses += 1
    candidates[made].mass, candidates[made].node = mass, at
    return made + 1, mass


@inner
def _fill_slots(beam, grammar, made, vacancies):
    """Put the `made` new prefixes into vacant slots or behind the last, and close the gaps."""
    state, nodes, slots, candidates = beam.state[0], beam.nodes, beam.slots, beam.candidates
    size = state.size
    for n in range(made):
        to = size
        if n < vacancies:
            to = np.int64(slots[n].vacant)
        else:
            size += 1
        _occupy(nodes, candidates[n].node, slots, to, grammar)
        slots[to].blank = 0.0
        slots[to].label = candidates[n].mass
    for v in range(vacancies - 1, made - 1, -1):
        to = np.int64(slots[v].vacant)
        size -= 1
        if to != size:
            _occupy(nodes, slots[size].node, slots, to, grammar)
            slots[to].blank = slots[size].blank
            slots[to].label = slots[size].label
    state.size = size


@inner
def _occupy(nodes, at, slots, i, grammar):
    """Put the prefix of node `at` into slot i of the beam."""
    node, slot, rules, lexicon = nodes[at], slots[i], grammar.rules[0], grammar.lexicon
    node.slot = i
    slot.node, slot.token, slot.parent, slot.weight = at, node.token, node.parent, node.weight
    if rules.pronounced:  # these need no bounds
        return
    slot.max_inside, slot.max_ending = rules.max_hotword, rules.max_hotword * rules.leave_unknown
    leave = 1.0
    if node.lexicon_node >= 0:
        leave = lexicon[node.lexicon_node].leave
        # Where the words below are rarer than an unknown one, to leave the lexicon is a gain.
        slot.max_inside *= max(1.0, leave * rules.max_leave)
        if node.lexicon_node == 0:
            slot.max_inside *= rules.max_bonus
        slot.max_ending = rules.max_hotword * leave
        word = _word_at(node.lexicon_node, lexicon)
        slot.max_ending *= grammar.words[word].max_weight if word >= 0 else rules.max_unknown
    slot.max_ending *= rules.max_bonus

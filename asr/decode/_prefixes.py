"""The tree of prefixes: nodes that come and go, and prefixes whose futures are the same. Compiled.

Two prefixes at one place of the lexicon, in one state of the language model and of the hot words,
and with the same last token go on alike whatever is still to be heard. Only one of them stays in
the beam and carries the mass of both; the other is *merged* into it: it has no children, and
remembers its parent and its share of the mass. So the beam holds different futures and not the
same one with many pasts, and yet no past is lost: `asr.decode._alternatives` finds them again.

An arc leads from a prefix to one that came into the beam in a later frame, always. So there are no
circles, though "no", "no no" and "no no no" are one to a language model that forgets.
"""

from __future__ import annotations

import numpy as np

from asr.compiled import inner
from asr.decode.tables import NOTHING


@inner
def child_like(nodes, parent, token, word):
    """The node of a prefix that is one token longer, or NOTHING."""
    child = nodes[parent].child
    while child >= 0:
        if nodes[child].token == token and nodes[child].word == word:
            return np.int64(child)
        child = nodes[child].sibling
    return np.int64(NOTHING)


@inner
def itself(nodes, at):
    """The node that stands for a prefix: itself, or what it is merged into."""
    slot = np.int64(nodes[at].slot)
    return -2 - slot if slot < NOTHING else np.int64(at)


@inner
def make_node(state, nodes, parent, candidate):
    """A fresh node with one use."""
    fresh = state.free
    if fresh >= 0:
        state.free = nodes[fresh].sibling
    else:
        fresh = state.used
        state.used += 1
    node = nodes[fresh]
    node.parent, node.child, node.sibling = parent, NOTHING, nodes[parent].child
    node.token, node.word, node.uses = candidate.token, candidate.word, 1
    node.place, node.lm_state, node.hot = candidate.place, candidate.lm_state, candidate.hot
    node.gain, node.lm = candidate.gain, candidate.lm
    node.frame, node.merged, node.slot = state.frames, NOTHING, NOTHING
    nodes[parent].child = fresh
    nodes[parent].uses += 1
    return fresh


@inner
def find_alike(beam, place, lm_state, hot, token, after, same):
    """The entry of a prefix of this future that came later than frame `after`, or of the node
    `same` alone if that is one; if there is none, -1 - the place for it."""
    table, nodes, now = beam.alike, beam.nodes, beam.state[0].frames
    mixed = np.uint64(place) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(lm_state) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= np.uint64(hot * 1024 + token) * np.uint64(0x165667B19E3779F9)
    h = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(len(table) - 1))
    while table[h].frame == now:
        node = nodes[table[h].node]
        if (
            node.place == place
            and node.lm_state == lm_state
            and node.hot == hot
            and node.token == token
            and node.frame > after
            and (same < 0 or same == table[h].node)
        ):
            return h
        h = (h + 1) & (len(table) - 1)
    return -1 - h


@inner
def enter(beam, at, made):
    """Let those that come later find a prefix of the beam by its future."""
    node = beam.nodes[at]
    never = np.int64(1) << 40  # so that what is found is a free entry
    h = -1 - find_alike(beam, node.place, node.lm_state, node.hot, node.token, never, NOTHING)
    entry = beam.alike[h]
    entry.frame, entry.node, entry.made = beam.state[0].frames, at, made


@inner
def merge(nodes, slots, fresh, into, mass, total):
    """Make the node `fresh` a past of `into`, whose mass is `total`, `mass` of it by `fresh`."""
    at = nodes[into].merged
    while at >= 0:
        nodes[at].share *= (total - mass) / total
        at = nodes[at].merged
    nodes[fresh].slot, nodes[fresh].share = -2 - into, mass / total
    nodes[fresh].merged = nodes[into].merged
    nodes[into].merged = fresh
    put_greatest_first(nodes, slots, into)


@inner
def first_share(nodes, at):
    """The share of the mass of a prefix that is not by those merged into it."""
    share = 1.0
    at = np.int64(nodes[at].merged)
    while at >= 0:
        share -= nodes[at].share
        at = np.int64(nodes[at].merged)
    return share


@inner
def put_greatest_first(nodes, slots, into):
    """Let the past with the greatest share be the one that `into` itself has."""
    rest, most, greatest = first_share(nodes, into), 0.0, np.int64(into)
    at = np.int64(nodes[into].merged)
    while at >= 0:
        if nodes[at].share > most:
            most, greatest = nodes[at].share, at
        at = np.int64(nodes[at].merged)
    if most <= rest:
        return
    # Exchange what two ways to one future differ in.
    ours, theirs = nodes[into], nodes[greatest]
    theirs.share = rest
    ours.word, theirs.word = theirs.word, ours.word
    ours.gain, theirs.gain = theirs.gain, ours.gain
    ours.lm, theirs.lm = theirs.lm, ours.lm
    if ours.parent != theirs.parent:
        _replace_child(nodes, ours.parent, into, greatest)
        _replace_child(nodes, theirs.parent, greatest, into)
        ours.parent, theirs.parent = theirs.parent, ours.parent
        ours.sibling, theirs.sibling = theirs.sibling, ours.sibling
    if ours.slot >= 0:
        slots[ours.slot].parent, slots[ours.slot].gain = ours.parent, ours.gain


@inner
def _replace_child(nodes, parent, old, new):
    if nodes[parent].child == old:
        nodes[parent].child = new
        return
    before = nodes[parent].child
    while nodes[before].sibling != old:
        before = nodes[before].sibling
    nodes[before].sibling = new


@inner
def release(state, nodes, at):
    """One use less; a node without uses is freed, and its parent has one use less in turn."""
    doomed = np.int64(NOTHING)  # merged into what is freed
    nodes[at].uses -= 1
    while True:
        while nodes[at].uses == 0 and nodes[at].parent != NOTHING:
            parent = nodes[at].parent
            _replace_child(nodes, parent, at, np.int64(nodes[at].sibling))
            merged = np.int64(nodes[at].merged)
            if merged >= 0:
                last = merged
                while nodes[last].merged >= 0:
                    last = np.int64(nodes[last].merged)
                nodes[last].merged = doomed
                doomed = merged
            nodes[at].slot, nodes[at].merged = NOTHING, NOTHING
            nodes[at].sibling = state.free
            state.free = at
            at = parent
            nodes[at].uses -= 1
        if doomed < 0:
            return
        at = doomed
        doomed = np.int64(nodes[at].merged)
        nodes[at].merged, nodes[at].uses = NOTHING, 0


@inner
def give_up_old_alternatives(state, nodes, slots):
    """Drop the prefixes that part from the best one before the horizon.

    No language model looks back that far: they can hardly win any more, and so what was said
    before is settled, however long one speaks.
    """
    state.next_look_back = state.frames + max(1, state.horizon // 4)
    best = 0
    for i in range(1, state.size):
        if slots[i].blank + slots[i].label > slots[best].blank + slots[best].label:
            best = i
    kept = np.int64(slots[best].node)
    while kept != state.root and nodes[kept].frame > state.frames - state.horizon:
        kept = np.int64(nodes[kept].parent)
    i = 0
    while i < state.size:
        if _descends(nodes, np.int64(slots[i].node), kept):
            i += 1
            continue
        nodes[slots[i].node].slot = NOTHING
        release(state, nodes, np.int64(slots[i].node))
        state.size -= 1
        if i != state.size:
            slots[i] = slots[state.size]
            nodes[slots[i].node].slot = i
    for at in range(state.used):
        if nodes[at].slot < NOTHING and not _descends(nodes, at, kept):
            before = -2 - np.int64(nodes[at].slot)
            while nodes[before].merged != at:
                before = np.int64(nodes[before].merged)
            nodes[before].merged = nodes[at].merged
            nodes[at].merged = NOTHING
            release(state, nodes, at)


@inner
def _descends(nodes, at, kept):
    at = np.int64(at)
    while at != kept and nodes[at].parent != NOTHING:
        at = np.int64(nodes[at].parent)
    return at == kept

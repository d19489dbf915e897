"""The compiled tree of prefixes: nodes, recombination, and the best paths through it.

Two prefixes at one node of the lexicon, in one state of the language model and of the hot words,
and with the same last token have the same future, whatever comes. Only one of them, the survivor,
stays in the beam and carries the mass of both (hypothesis recombination); the other has no
children, and remembers its parent and its share of the mass. So the beam holds different futures
and not one future with many pasts, and yet no past is lost: `best_paths` finds them again, best
first, each from another one by a detour nearer to the beginning.

A node always came into the beam in a later frame than its parent. So there are no circles, though
"no", "no no" and "no no no" are one to a language model that forgets.

First come the records of the whole search: few arrays of many fields, since every array that a
compiled function takes costs compile time. docs/decoding.md shows how they belong together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asr.compiled import inner, kernel

NOTHING = np.int64(-1)
# Lexicon nodes that are none: in a word that the lexicon lacks, and in such a word of a hot phrase.
UNKNOWN, PROTECTED = -1, -2
MAX_TOKENS = 64  # tried in one frame: one bit each
# Masses below this are multiplied by its inverse, and the exponent is remembered.
SMALL_EXPONENT = -200
SMALL = 2.0**SMALL_EXPONENT

_NODES = 4096  # capacities at first; doubled when full
_FRAMES = 4096


def _record(*lines: str) -> np.dtype:
    """A record type: each line a NumPy type and the names of its fields."""
    fields = [(name, kind) for kind, *names in map(str.split, lines) for name in names]
    return np.dtype(fields, align=True)


# --- The prefix tree and the beam. A mass is a probability times the weights of language model,
# bonuses and hot words, up to a common scale.

NODE = _record(  # a prefix; exactly a cache line
    "i4 parent token first_child",
    "i4 next_sibling",  # in free nodes: the next free one
    "i4 uses",  # children, and one if in the beam or recombined
    "i4 slot",  # where it is in the beam, or NOTHING
    "i4 survivor",  # the node that it is recombined into, or NOTHING
    "i4 next_recombined",  # list of those that are recombined into one survivor
    "f4 share",  # of a recombined node in the mass of its survivor
    "i4 lexicon_node",  # or UNKNOWN or PROTECTED
    "i4 lm_state hotword_state",
    "i4 word",  # entry of the lexicon that ended with this token, if tokens do not tell
    "f4 weight",  # factor of all but acoustics on the arc to this node
    "f4 lm_log_prob",  # of the word that ended on that arc
    "i4 frame",  # when it came into the beam
)
SLOT = _record(  # a prefix of the beam
    "i4 node token parent",
    "i4 vacant",  # scratch: a list of vacant slots
    "u8 extended",  # scratch: bits of the tokens whose extension is in the beam
    "f8 weight",
    "f8 max_inside max_ending",  # bounds of the weight of a token inside a word, and of its end
    "f8 blank label total",  # mass of paths that end in a blank, in the last token, and of both
    "f8 next_blank next_label",
)
CANDIDATE = _record(  # a prefix that may come into the beam
    "i4 slot",  # of the prefix that it extends
    "i4 node",  # that it has become
    "i4 token word lexicon_node lm_state hotword_state",
    "f8 mass weight lm_log_prob",
)
RECOMBINATION = _record(  # hash table: prefixes by their future
    "i8 frame",  # in which it was entered; others are empty
    "i4 node",
    "i4 candidate",  # that becomes the node in this frame, or NOTHING
)
PATH = _record(  # a way to an end of the search
    "i4 node",  # where it ends
    "i4 base",  # the path that it differs from
    "i4 detour",  # in passing this recombined node; NOTHING: through survivors alone
    "? is_cut",  # it ends in an unfinished word, which is left out
    "? is_expanded",
    "f8 mass",
    "f8 below",  # factor of `mass` on the way from the end up to the last detour
    "f8 end_weight",  # factor of the end
    "f8 last_lm end_lm",  # log-probability of the last word; with the end of the sentence
)
TOKEN_PROBABILITY = _record("i4 token", "f8 probability")
FRAME = _record("i8 number", "i4 first last", "f8 blank")  # of the lattice
LM_CACHE_BITS = 14
# An answer of the language model, and the weight that it makes.
LM_CACHE = _record("i4 state word next_state", "f4 log_prob", "f8 weight")
STATE = _record(
    "i8 size",  # prefixes in the beam
    "i8 n_nodes free_node root",  # nodes ever used; those given back are a list from `free_node`
    "i8 frames lattice_frames lattice_entries",  # so far
    "i8 horizon next_horizon",  # frames after which alternatives are dropped; when the next time
    "i8 exponent",  # masses are to be multiplied by scale * 2 ** exponent
    "f8 scale",
    "f8 skipped",  # log-probability of all blanks in frames that the lattice leaves out
    "? only_blank",  # no mass ends in a token: another blank changes nothing
)
_FIRST_STATE = np.zeros(1, STATE)
_FIRST_STATE["size"] = _FIRST_STATE["n_nodes"] = _FIRST_STATE["scale"] = 1
_FIRST_STATE["free_node"] = NOTHING

# --- The grammar: what may be said. Units are labels of the lexicon, then `boundary`, then one for
# all that is foreign to it.

RULES = _record(
    "i8 beam",
    "f8 beam_ratio",  # a prefix this much below the best is pruned
    "f8 token_ratio",  # a token this much below the best of the frame is not tried
    "f8 blank_skip",  # a frame with a more probable blank is all blank
    "i8 blank",
    "i8 space",  # token that is nothing but a boundary, or NOTHING
    "i8 boundary",  # unit that ends a word
    "? few_units",  # one bit each
    "? pronounced",  # phones: no token marks the end of a word
    "? closed",
    "f8 unknown",  # weight of a word that the lexicon lacks
    "f8 leave_lexicon",  # from the lexicon into such a word, beside `unknown` and `leave`
    "f8 leave_unknown word_bonus lm_weight",
    "i8 lm_unknown lm_end",  # ids in the language model
    # Upper bounds: of what hot words may add for a token, of what the beginning of a word may, and
    # of the weights of unknown words.
    "f8 max_hotword max_bonus max_unknown max_leave",
)
TOKEN = _record("i4 first last", "? ends")  # its units; does it end a word?
LEXICON_NODE = _record(  # see Lexicon
    "u8 children",  # bit (unit % 64) of each
    "i4 label first word_first",
    "f4 enter",  # weight on entering this node
    "f4 leave",  # undoes the look-ahead of the way to it
    "f4 max_step",  # upper bound of the weight of a token from here, if pronounced
)
WORD = _record(
    "i4 word lm_word",  # ids in the lexicon and in the language model
    "f4 weight",  # of its own,
    "f4 max_weight",  # and an upper bound of that and the model's in any context
)
HOTWORD_ARC = _record("i4 next", "f4 weight", "? inside")  # `inside` a phrase


class Beam(NamedTuple):
    """The state of one search."""

    state: np.ndarray  # (1,) STATE
    nodes: np.ndarray  # (capacity,) NODE
    slots: np.ndarray  # (beam,) SLOT
    candidates: np.ndarray  # (capacity,) CANDIDATE
    ranked: np.ndarray  # (capacity,) scratch
    row: np.ndarray  # (classes + 1,) scratch: probability of the tokens tried, 0 of all others
    tried: np.ndarray  # (MAX_TOKENS,) TOKEN_PROBABILITY
    recombination: np.ndarray  # (power of 2,) RECOMBINATION
    lm_cache: (
        np.ndarray
    )  # (2 ** LM_CACHE_BITS,) LM_CACHE: by a hash, the last of those that share it
    lattice: np.ndarray  # (capacity,) FRAME: what was tried and when
    entries: np.ndarray  # (capacity,) TOKEN_PROBABILITY


class Grammar(NamedTuple):
    """What a search obeys; read-only and fixed for one decoder. Weights are linear."""

    rules: np.ndarray  # (1,) RULES
    tokens: np.ndarray  # (classes,) TOKEN
    units: np.ndarray  # (all units of all tokens,)
    lexicon: np.ndarray  # (nodes + 1,) LEXICON_NODE
    words: np.ndarray  # (spellings,) WORD
    hotwords: np.ndarray  # (states, units + 1) HOTWORD_ARC; the last column takes credit back
    root: np.ndarray  # (1,) NODE and (1,) SLOT of the empty prefix
    first: np.ndarray


def new_beam(width: int, classes: int) -> Beam:
    candidates = max(256, 4 * width)
    return Beam(
        state=np.zeros(1, STATE),
        nodes=np.zeros(max(_NODES, 4 * width), NODE),
        slots=np.zeros(width, SLOT),
        candidates=np.zeros(candidates, CANDIDATE),
        ranked=np.zeros(candidates + width),
        row=np.zeros(classes + 1),
        tried=np.zeros(MAX_TOKENS, TOKEN_PROBABILITY),
        recombination=np.zeros(1 << (4 * width).bit_length(), RECOMBINATION),
        lm_cache=np.full(1 << LM_CACHE_BITS, NOTHING).astype(LM_CACHE),
        lattice=np.zeros(_FRAMES, FRAME),
        entries=np.zeros(4 * _FRAMES, TOKEN_PROBABILITY),
    )


def grown(beam: Beam) -> Beam:
    """The same search with twice the room for nodes and lattice."""
    bigger = {}
    for name in ("nodes", "lattice", "entries"):
        old = getattr(beam, name)
        bigger[name] = np.zeros(2 * len(old), old.dtype)
        bigger[name][: len(old)] = old
    return beam._replace(**bigger)


def start(beam: Beam, grammar: Grammar, horizon: float) -> None:
    """Make `beam` hold the empty prefix alone. `horizon`: frames, see DecoderConfig."""
    beam.state[:] = _FIRST_STATE
    beam.state["horizon"] = beam.state["next_horizon"] = min(horizon, 1 << 40)
    beam.row[:] = 0.0
    beam.recombination["frame"] = NOTHING
    beam.nodes[0] = grammar.root[0]
    beam.slots[0] = grammar.first[0]


def first_prefix(
    rules: np.void, hotwords: np.ndarray, classes: int, lm_state: int
) -> tuple[np.ndarray, np.ndarray]:
    """The empty prefix as (1,) NODE and (1,) SLOT; `lm_state` is the model's first."""
    root, slot = np.zeros(1, NODE), np.zeros(1, SLOT)
    links = ("parent", "first_child", "next_sibling", "survivor", "next_recombined", "word")
    for name in links:
        root[name] = NOTHING
    # Leading spaces are absorbed as if a space had gone before.
    root["token"] = rules["space"] if rules["space"] >= 0 else classes
    root["uses"], root["lm_state"] = 1, lm_state
    root["hotword_state"] = hotwords[0, rules["boundary"]]["next"]
    root["weight"] = 1.0
    slot["token"], slot["parent"] = root["token"], NOTHING
    slot["weight"] = slot["blank"] = 1.0
    slot["max_inside"] = slot["max_ending"] = rules["max_hotword"] * rules["max_bonus"]
    return root, slot


# Nodes.


@inner
def find_child(nodes, parent, token, word):
    """The node of a prefix that is one token longer, or NOTHING."""
    child = nodes[parent].first_child
    while child >= 0:
        if nodes[child].token == token and nodes[child].word == word:
            return np.int64(child)
        child = nodes[child].next_sibling
    return np.int64(NOTHING)


@inner
def representative(nodes, at):
    """The node that stands for a prefix in the beam: itself, or what it is recombined into."""
    survivor = np.int64(nodes[at].survivor)
    return survivor if survivor >= 0 else np.int64(at)


@inner
def make_node(state, nodes, parent, candidate):
    """A fresh node with one use."""
    fresh = state.free_node
    if fresh >= 0:
        state.free_node = nodes[fresh].next_sibling
    else:
        fresh = state.n_nodes
        state.n_nodes += 1
    node = nodes[fresh]
    node.parent, node.token, node.word = parent, candidate.token, candidate.word
    node.first_child, node.next_sibling = NOTHING, nodes[parent].first_child
    node.lexicon_node, node.lm_state = candidate.lexicon_node, candidate.lm_state
    node.hotword_state = candidate.hotword_state
    node.weight, node.lm_log_prob = candidate.weight, candidate.lm_log_prob
    node.frame, node.uses = state.frames, 1
    node.slot, node.survivor, node.next_recombined = NOTHING, NOTHING, NOTHING
    nodes[parent].first_child = fresh
    nodes[parent].uses += 1
    return fresh


@inner
def release(state, nodes, at):
    """One use less; a node without uses is freed, and its parent has one use less in turn."""
    orphans = np.int64(NOTHING)  # recombined into what is freed
    nodes[at].uses -= 1
    while True:
        while nodes[at].uses == 0 and nodes[at].parent != NOTHING:
            parent = nodes[at].parent
            _replace_child(nodes, parent, at, np.int64(nodes[at].next_sibling))
            recombined = np.int64(nodes[at].next_recombined)
            if recombined >= 0:
                last = recombined
                while nodes[last].next_recombined >= 0:
                    last = np.int64(nodes[last].next_recombined)
                nodes[last].next_recombined = orphans
                orphans = recombined
            nodes[at].slot, nodes[at].survivor = NOTHING, NOTHING
            nodes[at].next_recombined = NOTHING
            nodes[at].next_sibling = state.free_node
            state.free_node = at
            at = parent
            nodes[at].uses -= 1
        if orphans < 0:
            return
        at = orphans
        orphans = np.int64(nodes[at].next_recombined)
        nodes[at].next_recombined, nodes[at].uses = NOTHING, 0


@inner
def _replace_child(nodes, parent, old, new):
    if nodes[parent].first_child == old:
        nodes[parent].first_child = new
        return
    before = nodes[parent].first_child
    while nodes[before].next_sibling != old:
        before = nodes[before].next_sibling
    nodes[before].next_sibling = new


@inner
def drop_old_alternatives(state, nodes, slots):
    """Drop the prefixes that differ from the best one before the horizon.

    No language model looks back that far: they can hardly win any more, and so what was said
    before is settled, however long one speaks.
    """
    state.next_horizon = state.frames + max(1, state.horizon // 4)
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
    for at in range(state.n_nodes):
        if nodes[at].survivor >= 0 and not _descends(nodes, at, kept):
            before = np.int64(nodes[at].survivor)
            while nodes[before].next_recombined != at:
                before = np.int64(nodes[before].next_recombined)
            nodes[before].next_recombined = nodes[at].next_recombined
            nodes[at].next_recombined = NOTHING
            release(state, nodes, at)


@inner
def _descends(nodes, at, kept):
    at = np.int64(at)
    while at != kept and nodes[at].parent != NOTHING:
        at = np.int64(nodes[at].parent)
    return at == kept


@kernel
def settled_node(nodes, root):
    """The last node that every prefix in the beam goes through."""
    at = root
    while nodes[at].slot < 0 and nodes[nodes[at].first_child].next_sibling < 0:
        at = nodes[at].first_child
    return at


@kernel
def advance_root(beam, at):
    """Make `at` the root, and forget the nodes above it, which have no other children."""
    state, nodes, slots = beam.state[0], beam.nodes, beam.slots
    above = np.int64(nodes[at].parent)
    while above != NOTHING:
        nodes[above].next_sibling = state.free_node
        state.free_node = above
        above = np.int64(nodes[above].parent)
    nodes[at].parent = NOTHING
    nodes[at].next_sibling = NOTHING
    state.root = at
    for i in range(state.size):
        slots[i].parent = nodes[slots[i].node].parent


# Recombination.


@inner
def find_same_future(beam, at, after, same):
    """The entry of a prefix with the future of node `at` that came later than frame `after`, or of
    the node `same` alone if that is one; if there is none, -1 - the index for it."""
    table, nodes, now = beam.recombination, beam.nodes, beam.state[0].frames
    this = nodes[at]
    mixed = np.uint64(this.lexicon_node) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= np.uint64(this.lm_state) * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed ^= np.uint64(this.hotword_state * 1024 + this.token) * np.uint64(0x165667B19E3779F9)
    h = np.int64((mixed ^ (mixed >> np.uint64(32))) & np.uint64(len(table) - 1))
    while table[h].frame == now:
        node = nodes[table[h].node]
        if (
            node.lexicon_node == this.lexicon_node
            and node.lm_state == this.lm_state
            and node.hotword_state == this.hotword_state
            and node.token == this.token
            and node.frame > after
            and (same < 0 or same == table[h].node)
        ):
            return h
        h = (h + 1) & (len(table) - 1)
    return -1 - h


@inner
def enter(beam, at, candidate):
    """Let those that come later find a prefix of the beam by its future."""
    never = np.int64(1) << 40  # so that what is found is a free entry
    entry = beam.recombination[-1 - find_same_future(beam, at, never, NOTHING)]
    entry.frame, entry.node, entry.candidate = beam.state[0].frames, at, candidate


@inner
def recombine(nodes, slots, fresh, survivor, mass, total):
    """Make the node `fresh` a past of `survivor`: `mass` of the `total` mass is by `fresh`."""
    at = nodes[survivor].next_recombined
    while at >= 0:
        nodes[at].share *= (total - mass) / total
        at = nodes[at].next_recombined
    nodes[fresh].survivor, nodes[fresh].share = survivor, mass / total
    nodes[fresh].next_recombined = nodes[survivor].next_recombined
    nodes[survivor].next_recombined = fresh
    promote_greatest(nodes, slots, survivor)


@inner
def _own_share(nodes, at):
    """The share of the mass of a prefix that is not by those recombined into it."""
    share = 1.0
    at = np.int64(nodes[at].next_recombined)
    while at >= 0:
        share -= nodes[at].share
        at = np.int64(nodes[at].next_recombined)
    return share


@inner
def promote_greatest(nodes, slots, survivor):
    """Let the past with the greatest share be the one that the survivor itself has."""
    rest, most, greatest = _own_share(nodes, survivor), 0.0, np.int64(survivor)
    at = np.int64(nodes[survivor].next_recombined)
    while at >= 0:
        if nodes[at].share > most:
            most, greatest = nodes[at].share, at
        at = np.int64(nodes[at].next_recombined)
    if most <= rest:
        return
    # Exchange what two ways to one future differ in.
    ours, theirs = nodes[survivor], nodes[greatest]
    theirs.share = rest
    ours.word, theirs.word = theirs.word, ours.word
    ours.weight, theirs.weight = theirs.weight, ours.weight
    ours.lm_log_prob, theirs.lm_log_prob = theirs.lm_log_prob, ours.lm_log_prob
    if ours.parent != theirs.parent:
        _replace_child(nodes, ours.parent, survivor, greatest)
        _replace_child(nodes, theirs.parent, greatest, survivor)
        ours.parent, theirs.parent = theirs.parent, ours.parent
        ours.next_sibling, theirs.next_sibling = theirs.next_sibling, ours.next_sibling
    if ours.slot >= 0:
        slots[ours.slot].parent, slots[ours.slot].weight = ours.parent, ours.weight


# N-best paths.


@kernel
def best_paths(nodes, root, paths, ends, share, order):
    """Fill `order` with the best paths, best first; returns how many there are.

    `paths` (capacity,) PATH: the first `ends` of them as `asr.decode.search.finish` fills them, the
    rest is filled here; `share` (nodes,): zeros, scratch. The masses are good estimates: exact ones
    need a pass over all frames.
    """
    taken, found, fresh = np.int64(0), np.int64(0), np.int64(ends)
    room = len(paths) - ends
    for e in range(ends):
        if paths[e].mass > 0.0:
            paths[e].below = paths[e].mass
            paths[e].mass *= _share_above(nodes, root, paths[e].node, share)
            is_taken, found = _rank(paths, order, found, np.int64(e))
            taken += is_taken
    while True:
        k = 0
        while k < found and paths[order[k]].is_expanded:
            k += 1
        if k == found:
            return found
        base = np.int64(order[k])
        paths[base].is_expanded = True
        below, at = paths[base].below, np.int64(paths[base].node)
        if paths[base].detour >= 0:
            at = np.int64(nodes[paths[base].detour].parent)
        while at != root:
            other = np.int64(nodes[at].next_recombined)
            while other >= 0:
                mass = below * nodes[other].share
                is_good = found < len(order) or mass > paths[order[found - 1]].mass
                if is_good and taken < room:
                    paths[fresh] = paths[base]
                    path = paths[fresh]
                    path.base, path.detour, path.is_expanded = base, other, False
                    path.below = mass
                    path.mass = mass * _share_above(nodes, root, nodes[other].parent, share)
                    is_taken, found = _rank(paths, order, found, fresh)
                    taken += is_taken
                    fresh += is_taken
                other = np.int64(nodes[other].next_recombined)
            if nodes[at].next_recombined >= 0:
                below *= _own_share(nodes, at)
            at = np.int64(nodes[at].parent)


@inner
def _rank(paths, order, found, p):
    """Put path `p` into `order` if it is among the best; whether, and how many there are now."""
    mass = paths[p].mass
    if not mass > 0.0:
        return False, found
    if found == len(order):
        if mass <= paths[order[found - 1]].mass:
            return False, found
        found -= 1
    k = found
    while k > 0 and paths[order[k - 1]].mass < mass:
        order[k] = order[k - 1]
        k -= 1
    order[k] = p
    return True, found + 1


@inner
def _share_above(nodes, root, at, share):
    """The share of the mass of `at` that came through survivors all along."""
    total, above = 1.0, np.int64(at)
    while above != root and share[above] == 0.0:
        total *= _own_share(nodes, above)
        above = np.int64(nodes[above].parent)
    if above != root:
        total *= share[above]
    rest, above = total, np.int64(at)
    while above != root and share[above] == 0.0:  # remember it for all on the way
        share[above] = rest
        rest /= _own_share(nodes, above)
        above = np.int64(nodes[above].parent)
    return total


@kernel
def trace(nodes, root, at, paths, p, room):
    """Fill `room` with the nodes from below the root to `at`, last first; returns how many.

    On the detours of path `p`, if that is not NOTHING. Of a longer way than `room` holds only the
    number is right.
    """
    length = 0
    while at != root:
        passed, q = np.int64(at), np.int64(p)
        while q >= 0 and paths[q].detour >= 0:
            if nodes[paths[q].detour].survivor == at:
                passed = np.int64(paths[q].detour)
            q = np.int64(paths[q].base)
        if length < len(room):
            room[length] = passed
        at = np.int64(nodes[passed].parent)
        length += 1
    return length

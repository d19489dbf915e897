"""What the compiled search works on: arrays of records, and two tuples that hold them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NOTHING = np.int64(-1)
# Places that are no node of the lexicon: in a word it lacks, and in one that hot words vouch for.
UNKNOWN, PROTECTED = -1, -2
MAX_TOKENS = 64  # tried in one frame: one bit each
# Masses below this are multiplied by its inverse, and the exponent is remembered.
SMALL_EXPONENT = -200
SMALL = 2.0**SMALL_EXPONENT

_NODES = 4096  # capacities at first; doubled when full
_FRAMES = 4096

i4, i8, f4, f8 = np.int32, np.int64, np.float32, np.float64

STATE = np.dtype(
    [
        ("size", i8),  # prefixes in the beam
        ("used", i8),  # nodes ever taken; those given back since form a list from `free`
        ("free", i8),
        ("root", i8),
        ("frames", i8),
        ("lattice", i8),  # frames and entries of the lattice
        ("entries", i8),
        ("horizon", i8),  # alternatives older than so many frames are given up
        ("next_look_back", i8),  # at this frame
        ("exponent", i8),  # masses are to be multiplied by scale * 2 ** exponent
        ("scale", f8),
        ("passed", f8),  # log-probability of all blanks in frames that the lattice leaves out
        ("rests", np.bool_),  # no mass ends in a label: another blank changes nothing
    ]
)
NODE = np.dtype(  # a prefix, less than a cache line
    [
        ("parent", i4),
        ("token", i4),
        ("child", i4),  # first of the children, or NOTHING
        ("sibling", i4),  # next child of the same parent; in free nodes, the next free one
        ("uses", i4),  # children, and one if in the beam
        ("slot", i4),  # place in the beam, NOTHING, or -2 - the node that it is merged into
        ("place", i4),  # node of the lexicon, or UNKNOWN or PROTECTED
        ("lm_state", i4),
        ("hot", i4),  # state of the hot-word automaton
        ("word", i4),  # entry of the lexicon that ended with this token, if tokens do not tell
        ("gain", f4),  # factor of everything but acoustics on the arc to this node
        ("lm", f4),  # language-model log-probability of the word that ended on it
        ("frame", i4),  # when it came into the beam
        ("merged", i4),  # first of those merged into this one; in these, the next one
        ("share", f4),  # of a merged node, in the mass of what it is merged into
    ]
)
SLOT = np.dtype(  # a prefix of the beam
    [
        ("node", i4),
        ("token", i4),
        ("parent", i4),
        ("vacant", i4),  # scratch: a list of vacant slots
        ("taken", np.uint64),  # scratch: tokens whose extension is in the beam
        ("gain", f8),
        ("most_inside", f8),  # upper bounds of the factor of a token inside a word
        ("most_ending", f8),  # and of one that ends it
        ("blank", f8),  # mass of the paths that end in a blank
        ("label", f8),  # and of those that end in the last token
        ("total", f8),
        ("next_blank", f8),
        ("next_label", f8),
    ]
)
CANDIDATE = np.dtype(
    [
        ("slot", i4),
        ("token", i4),
        ("word", i4),
        ("place", i4),
        ("lm_state", i4),
        ("hot", i4),
        ("mass", f8),
        ("gain", f8),
        ("lm", f8),
    ]
)
ALIKE = np.dtype(  # entry of a hash table of the beam by place, model state, hot words and token
    [
        ("frame", i8),  # in which it was entered; others are empty
        ("node", i4),
        ("made", i4),  # candidate that becomes the node in this frame, or NOTHING
    ]
)
MEMO_BITS = 14
MEMO = np.dtype(  # an answer of the language model, and the factor that it makes
    [("state", i4), ("word", i4), ("next_state", i4), ("log_prob", f4), ("gain", f8)]
)
TRIED = np.dtype([("token", i4), ("chance", f8)])
FRAME = np.dtype([("number", i8), ("first", i4), ("last", i4), ("blank", f8)])
RESULT = np.dtype(
    [
        ("node", i4),
        ("is_cut", np.bool_),  # in an unfinished word, which is left out
        ("mass", f8),
        ("gain", f8),  # factor of the end
        ("last_lm", f8),  # language-model log-probability of the word that ends with it,
        ("lm", f8),  # and with the end of the sentence
    ]
)
CHOICE = np.dtype(  # one of the paths to the results, where prefixes are merged
    [
        ("mass", f8),
        ("below", f8),  # factor of `mass` on the way from the end up to the last turn
        ("result", i4),  # where it ends
        ("like", i4),  # the choice that it differs from
        ("turn", i4),  # in taking this merged node; NOTHING: merged nodes are avoided
        ("is_expanded", np.bool_),
    ]
)
PLACE = np.dtype([("start", i8), ("end", i8), ("chance", f8)])  # of a token in time

RULES = np.dtype(
    [
        ("beam", i8),
        ("least", f8),  # a prefix this far below the best is dropped
        ("least_token", f8),  # a token this far below the frame's best is not tried
        ("blank_skip", f8),  # a frame with a likelier blank is all blank
        ("blank", i8),
        ("space", i8),  # token that is nothing but a boundary, or NOTHING
        ("boundary", i8),  # unit that ends a word
        ("few_units", np.bool_),  # one bit each
        ("unmarked", np.bool_),  # words end without a mark: phones
        ("closed", np.bool_),
        ("unknown", f8),  # factor of a word that the lexicon lacks
        ("fall", f8),  # factor from the lexicon into such a word, apart from `unknown` and `leave`
        ("leave_unknown", f8),
        ("bonus", f8),
        ("lm_weight", f8),
        ("lm_unknown", i8),  # ids in the language model
        ("lm_end", i8),
        ("most_hot", f8),  # upper bounds: of what hot words may add for a token,
        ("most_bonus", f8),  # of what the beginning of a word may,
        ("most_unknown", f8),  # and of the factors of unknown words
        ("most_fall", f8),
    ]
)
_FIRST_STATE = np.zeros(1, STATE)
_FIRST_STATE["size"] = _FIRST_STATE["used"] = _FIRST_STATE["scale"] = 1
_FIRST_STATE["free"] = NOTHING

# Units are labels of the lexicon, then `boundary`, then one for all that is foreign to it.
TOKEN = np.dtype([("first", i4), ("last", i4), ("ends", np.bool_)])
TREE = np.dtype(  # see Lexicon
    [
        ("children", np.uint64),  # bit (unit % 64) of each
        ("label", i4),
        ("first", i4),
        ("word_first", i4),
        ("enter", f4),  # factor on entering this node
        ("leave", f4),  # undoes the look-ahead of the way to it
        ("most", f4),  # upper bound of the factor of a token from here, if words have no mark
    ]
)
WORD = np.dtype(
    [
        ("word", i4),  # ids in the lexicon and in the language model
        ("lm_word", i4),
        ("gain", f4),  # a factor of its own,
        ("most", f4),  # and an upper bound of that and of the model's in any context
    ]
)
HOT = np.dtype([("next", i4), ("gain", f4), ("begun", np.bool_)])  # `begun`: inside a phrase


class Beam(NamedTuple):
    """The state of one search."""

    state: np.ndarray  # (1,) STATE
    nodes: np.ndarray  # (capacity,) NODE
    slots: np.ndarray  # (beam,) SLOT
    candidates: np.ndarray  # (capacity,) CANDIDATE
    ranked: np.ndarray  # (capacity,) scratch
    row: np.ndarray  # (classes + 1,) scratch: chance of the tokens tried, 0 of all others
    tried: np.ndarray  # (MAX_TOKENS,) TRIED
    alike: np.ndarray  # (power of 2,) ALIKE
    memo: np.ndarray  # (2 ** MEMO_BITS,) MEMO: by a hash, the last of those that share it
    lattice: np.ndarray  # (capacity,) FRAME: what was tried and when
    entries: np.ndarray  # (capacity,) TRIED


class Grammar(NamedTuple):
    """What a search obeys; read-only and fixed for one decoder. Factors are linear."""

    rules: np.ndarray  # (1,) RULES
    tokens: np.ndarray  # (classes,) TOKEN
    units: np.ndarray  # (all units of all tokens,)
    tree: np.ndarray  # (nodes + 1,) TREE
    words: np.ndarray  # (spellings,) WORD
    hot: np.ndarray  # (states, units + 1) HOT; the last column takes partial credit back
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
        tried=np.zeros(MAX_TOKENS, TRIED),
        alike=np.zeros(1 << (4 * width).bit_length(), ALIKE),
        memo=np.full(1 << MEMO_BITS, NOTHING).astype(MEMO),
        lattice=np.zeros(_FRAMES, FRAME),
        entries=np.zeros(4 * _FRAMES, TRIED),
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
    beam.state["horizon"] = beam.state["next_look_back"] = min(horizon, 1 << 40)
    beam.row[:] = 0.0
    beam.alike["frame"] = NOTHING
    beam.nodes[0] = grammar.root[0]
    beam.slots[0] = grammar.first[0]


def first_prefix(
    rules: np.void, hot: np.ndarray, classes: int, lm_state: int
) -> tuple[np.ndarray, np.ndarray]:
    """The empty prefix as (1,) NODE and (1,) SLOT; `lm_state` is the model's first."""
    root, slot = np.zeros(1, NODE), np.zeros(1, SLOT)
    for name in ("parent", "child", "sibling", "word", "merged"):
        root[name] = NOTHING
    # Leading spaces are absorbed as if a space had gone before.
    root["token"] = rules["space"] if rules["space"] >= 0 else classes
    root["uses"], root["lm_state"] = 1, lm_state
    root["hot"] = hot[0, rules["boundary"]]["next"]
    root["gain"] = 1.0
    slot["token"], slot["parent"] = root["token"], NOTHING
    slot["gain"] = slot["blank"] = 1.0
    slot["most_inside"] = slot["most_ending"] = rules["most_hot"] * rules["most_bonus"]
    return root, slot

"""The arrays of records that the compiled search works on, and the two tuples that hold them.

Few arrays of many fields: every array that a compiled function takes costs compile time.
docs/decoding.md shows how they belong together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NOTHING = np.int64(-1)
# Lexicon nodes that are none: in a word that the lexicon lacks, and in such a word of a hot phrase.
UNKNOWN, PROTECTED = -1, -2
MAX_TOKENS = 64  # tried in one frame: one bit each
# Masses below this are multiplied by its inverse, and the exponent is remembered.
SMALL_EXPONENT = -200
SMALL = 2.0**SMALL_EXPONENT

_NODES = 4096  # capacities at first; doubled when full
_FRAMES = 4096

i4, i8, f4, f8 = np.int32, np.int64, np.float32, np.float64

# --- The prefix tree and the beam. A mass is a probability times the weights of language model,
# bonuses and hot words, up to a common scale.

NODE = np.dtype(  # a prefix; exactly a cache line
    [
        ("parent", i4),
        ("token", i4),
        ("first_child", i4),
        ("next_sibling", i4),  # in free nodes: the next free one
        ("uses", i4),  # children, and one if in the beam or recombined
        ("slot", i4),  # where it is in the beam, or NOTHING
        ("survivor", i4),  # the node that it is recombined into, or NOTHING
        ("next_recombined", i4),  # list of those that are recombined into one survivor
        ("share", f4),  # of a recombined node in the mass of its survivor
        ("lexicon_node", i4),  # or UNKNOWN or PROTECTED
        ("lm_state", i4),
        ("hotword_state", i4),
        ("word", i4),  # entry of the lexicon that ended with this token, if tokens do not tell
        ("weight", f4),  # factor of all but acoustics on the arc to this node
        ("lm_log_prob", f4),  # of the word that ended on that arc
        ("frame", i4),  # when it came into the beam
    ]
)
SLOT = np.dtype(  # a prefix of the beam
    [
        ("node", i4),
        ("token", i4),
        ("parent", i4),
        ("vacant", i4),  # scratch: a list of vacant slots
        ("extended", np.uint64),  # scratch: bits of the tokens whose extension is in the beam
        ("weight", f8),
        ("max_inside", f8),  # upper bounds of the weight of a token inside a word
        ("max_ending", f8),  # and of one that ends it
        ("blank", f8),  # mass of the paths that end in a blank
        ("label", f8),  # and of those that end in the last token
        ("total", f8),
        ("next_blank", f8),
        ("next_label", f8),
    ]
)
CANDIDATE = np.dtype(  # a prefix that may come into the beam
    [
        ("slot", i4),  # of the prefix that it extends
        ("node", i4),  # that it has become
        ("token", i4),
        ("word", i4),
        ("lexicon_node", i4),
        ("lm_state", i4),
        ("hotword_state", i4),
        ("mass", f8),
        ("weight", f8),
        ("lm_log_prob", f8),
    ],
    align=True,
)
RECOMBINATION = np.dtype(  # hash table: prefixes by their future
    [
        ("frame", i8),  # in which it was entered; others are empty
        ("node", i4),
        ("candidate", i4),  # that becomes the node in this frame, or NOTHING
    ]
)
PATH = np.dtype(  # a way to an end of the search
    [
        ("node", i4),  # where it ends
        ("base", i4),  # the path that it differs from
        ("detour", i4),  # in passing this recombined node; NOTHING: through survivors alone
        ("is_cut", np.bool_),  # it ends in an unfinished word, which is left out
        ("is_expanded", np.bool_),
        ("mass", f8),
        ("below", f8),  # factor of `mass` on the way from the end up to the last detour
        ("end_weight", f8),  # factor of the end
        ("last_lm", f8),  # language-model log-probability of the word that ends with it,
        ("end_lm", f8),  # and with the end of the sentence
    ],
    align=True,
)
TOKEN_PROBABILITY = np.dtype([("token", i4), ("probability", f8)])
FRAME = np.dtype([("number", i8), ("first", i4), ("last", i4), ("blank", f8)])  # of the lattice
LM_CACHE = np.dtype(  # an answer of the language model, and the weight that it makes
    [("state", i4), ("word", i4), ("next_state", i4), ("log_prob", f4), ("weight", f8)]
)
STATE = np.dtype(
    [
        ("size", i8),  # prefixes in the beam
        ("n_nodes", i8),  # nodes ever used; those given back are a list from `free_node` on
        ("free_node", i8),
        ("root", i8),
        ("frames", i8),  # seen so far
        ("lattice_frames", i8),
        ("lattice_entries", i8),
        ("horizon", i8),  # frames after which alternatives are dropped,
        ("next_horizon", i8),  # at this frame the next time
        ("exponent", i8),  # masses are to be multiplied by scale * 2 ** exponent
        ("scale", f8),
        ("skipped", f8),  # log-probability of all blanks in frames that the lattice leaves out
        ("only_blank", np.bool_),  # no mass ends in a token: another blank changes nothing
    ]
)
_FIRST_STATE = np.zeros(1, STATE)
_FIRST_STATE["size"] = _FIRST_STATE["n_nodes"] = _FIRST_STATE["scale"] = 1
_FIRST_STATE["free_node"] = NOTHING

# --- The grammar: what may be said. Units are labels of the lexicon, then `boundary`, then one for
# all that is foreign to it.

RULES = np.dtype(
    [
        ("beam", i8),
        ("beam_ratio", f8),  # a prefix this much below the best is pruned
        ("token_ratio", f8),  # a token this much below the best of the frame is not tried
        ("blank_skip", f8),  # a frame with a more probable blank is all blank
        ("blank", i8),
        ("space", i8),  # token that is nothing but a boundary, or NOTHING
        ("boundary", i8),  # unit that ends a word
        ("few_units", np.bool_),  # one bit each
        ("pronounced", np.bool_),  # phones: no token marks the end of a word
        ("closed", np.bool_),
        ("unknown", f8),  # weight of a word that the lexicon lacks
        ("leave_lexicon", f8),  # from the lexicon into such a word, beside `unknown` and `leave`
        ("leave_unknown", f8),
        ("word_bonus", f8),
        ("lm_weight", f8),
        ("lm_unknown", i8),  # ids in the language model
        ("lm_end", i8),
        ("max_hotword", f8),  # upper bounds: of what hot words may add for a token,
        ("max_bonus", f8),  # of what the beginning of a word may,
        ("max_unknown", f8),  # and of the weights of unknown words
        ("max_leave", f8),
    ]
)
TOKEN = np.dtype([("first", i4), ("last", i4), ("ends", np.bool_)])  # its units; ends it a word?
LEXICON_NODE = np.dtype(  # see Lexicon
    [
        ("children", np.uint64),  # bit (unit % 64) of each
        ("label", i4),
        ("first", i4),
        ("word_first", i4),
        ("enter", f4),  # weight on entering this node
        ("leave", f4),  # undoes the look-ahead of the way to it
        ("max_step", f4),  # upper bound of the weight of a token from here, if pronounced
    ]
)
WORD = np.dtype(
    [
        ("word", i4),  # ids in the lexicon and in the language model
        ("lm_word", i4),
        ("weight", f4),  # of its own,
        ("max_weight", f4),  # and an upper bound of that and the model's in any context
    ]
)
HOTWORD_ARC = np.dtype([("next", i4), ("weight", f4), ("inside", np.bool_)])  # of a phrase


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


LM_CACHE_BITS = 14


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

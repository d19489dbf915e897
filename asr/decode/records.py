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

"""Phrases to listen for: an Aho-Corasick automaton over the units of the lexicon.

Every unit of a phrase earns its share of the phrase's boost as it is spelled: a boost that is paid
at the end comes too late for a prefix that has been pruned by then. What a phrase has earned is
taken back as soon as the text takes another turn.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np

from asr.decode.records import HOTWORD_ARC

_MAX_PRONUNCIATIONS = 16  # of a phrase: the combinations of its words'


def build_automaton(
    phrases: Mapping[str, float],
    spell: Mapping[str, Sequence[Sequence[int]]],
    units: int,
    boundary: int,
) -> np.ndarray:
    """Transitions (states, units + 1) HOTWORD_ARC of the automaton of all phrases.

    State 0 is outside of all phrases. The last column takes back what is unfinished.
    `phrases`: natural-log boosts.

    `spell`: every word's spellings in labels, `boundary` the label between words. A phrase counts
    only as whole words: it is spelled boundary, units, boundary (Aho and Corasick 1975, "Efficient
    string matching").
    """
    children: list[dict[int, int]] = [{}]
    credit, bank, depth = [0.0], [0.0], [0]
    # Words of a phrase are known words wherever they stand; alone they earn nothing.
    words = dict.fromkeys((word for phrase in phrases for word in phrase.split()), 0.0)
    for phrase, boost in (words | dict(phrases)).items():
        spellings = [spell[word] for word in phrase.split()]
        for chosen in itertools.islice(itertools.product(*spellings), _MAX_PRONUNCIATIONS):
            sequence = [boundary]
            for spelling in chosen:
                sequence += [*spelling, boundary]
            node = 0
            for position, unit in enumerate(sequence):
                if unit not in children[node]:
                    children[node][unit] = len(children)
                    children.append({})
                    credit.append(0.0)
                    bank.append(0.0)
                    depth.append(position + 1)
                node = children[node][unit]
                if position + 1 < len(sequence):
                    share = boost * position / (len(sequence) - 2)
                    credit[node] = max(credit[node], share)
            bank[node] = max(bank[node], boost)

    states = len(children)
    next_state = np.zeros((states, units), np.int32)
    fail = [0] * states
    for unit, child in children[0].items():
        next_state[0, unit] = child
    queue = deque(children[0].values())
    while queue:  # breadth first: what a state falls back to is complete before it
        node = queue.popleft()
        bank[node] += bank[fail[node]]
        credit[node] = max(credit[node], credit[fail[node]])
        next_state[node] = next_state[fail[node]]
        for unit, child in children[node].items():
            fail[child] = int(next_state[fail[node], unit])
            next_state[node, unit] = child
            queue.append(child)
    earned = np.array(credit)
    log_gain = earned[next_state] + np.array(bank)[next_state] - earned[:, None]
    automaton = np.zeros((states, units + 1), HOTWORD_ARC)
    automaton["next"][:, :-1] = next_state
    automaton["weight"][:, :-1] = np.exp(log_gain)
    automaton["weight"][:, -1] = np.exp(-earned)
    automaton["inside"][:, :-1] = (np.array(depth) > 1)[next_state]
    return automaton

"""The likeliest ways to the ends of a search whose prefixes are merged. Compiled.

Where prefixes are merged (`asr.decode._prefixes`), every path from an end back to the root takes
one of several turns, each with a known share of the mass. The paths are found best first: each one
found offers those that differ from it in one more turn, nearer to the beginning.
"""

from __future__ import annotations

import numpy as np

from asr.compiled import inner, kernel
from asr.decode._prefixes import first_share
from asr.decode.tables import NOTHING


@kernel
def choose(nodes, root, results, wanted, share, choices, order):
    """Fill `order` with the best `wanted` choices; returns how many there are.

    `results`: RESULT; `choices` (capacity,) CHOICE and `order` (wanted,) are filled; `share`:
    (nodes,) zeros, scratch. The masses are good estimates: exact ones need a pass over all frames.
    """
    used, found = np.int64(0), np.int64(0)
    for r in range(len(results)):
        if results[r].mass > 0.0:
            mass = results[r].mass * _share_above(nodes, root, results[r].node, share)
            used, found = _offer(
                choices, used, order, found, wanted, mass, results[r].mass, r, NOTHING, NOTHING
            )
    while True:
        place = 0
        while place < found and choices[order[place]].is_expanded:
            place += 1
        if place == found:
            return found
        c = np.int64(order[place])
        choices[c].is_expanded = True
        below = choices[c].below
        at = np.int64(results[choices[c].result].node)
        if choices[c].turn >= 0:
            at = np.int64(nodes[choices[c].turn].parent)
        while at != root:
            other = np.int64(nodes[at].merged)
            while other >= 0:
                taken = below * nodes[other].share
                if found < wanted or taken > choices[order[found - 1]].mass:
                    mass = taken * _share_above(nodes, root, nodes[other].parent, share)
                    used, found = _offer(
                        choices,
                        used,
                        order,
                        found,
                        wanted,
                        mass,
                        taken,
                        np.int64(choices[c].result),
                        c,
                        other,
                    )
                other = np.int64(nodes[other].merged)
            if nodes[at].merged >= 0:
                below *= first_share(nodes, at)
            at = np.int64(nodes[at].parent)


@inner
def _offer(choices, used, order, found, wanted, mass, below, result, like, turn):
    """Take a choice in if it is among the best; returns how many are used and found now."""
    if used == len(choices) or not mass > 0.0:
        return used, found
    if found == wanted:
        if mass <= choices[order[found - 1]].mass:
            return used, found
        found -= 1
    choice = choices[used]
    choice.mass, choice.below, choice.result = mass, below, result
    choice.like, choice.turn, choice.is_expanded = like, turn, False
    k = found
    while k > 0 and choices[order[k - 1]].mass < mass:
        order[k] = order[k - 1]
        k -= 1
    order[k] = used
    return used + 1, found + 1


@inner
def _share_above(nodes, root, at, share):
    """The share of the mass of `at` that came by first ways all along."""
    total, above = 1.0, np.int64(at)
    while above != root and share[above] == 0.0:
        total *= first_share(nodes, above)
        above = np.int64(nodes[above].parent)
    if above != root:
        total *= share[above]
    rest, above = total, np.int64(at)
    while above != root and share[above] == 0.0:  # remember it for all on the way
        share[above] = rest
        rest /= first_share(nodes, above)
        above = np.int64(nodes[above].parent)
    return total


@kernel
def follow(nodes, root, choices, c, results, path):
    """Fill `path` with the nodes of a choice from below the root, last first; returns how many.

    Of a longer path than `path` holds only the number is right.
    """
    length = 0
    at = np.int64(results[choices[c].result].node)
    while at != root:
        turn = at
        d = c
        while choices[d].turn >= 0:
            if -2 - nodes[choices[d].turn].slot == at:
                turn = np.int64(choices[d].turn)
            d = choices[d].like
        if length < len(path):
            path[length] = turn
        at = np.int64(nodes[turn].parent)
        length += 1
    return length

"""Phone sets and pronunciations: TIMIT's 61 labels, their folding to 48 and 39, CMUdict files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from asr.errors import VocabularyError
from asr.files import COMPRESSED, UNREADABLE, bounded_lines, open_binary
from asr.text.encoding import decode

# The labels of TIMIT's .phn files (Garofolo et al. 1993, doc/phoncode.doc).
TIMIT_61 = tuple(
    """aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv
    ih ix iy jh k kcl l m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh""".split()
)
# Lee and Hon 1989, "Speaker-independent phone recognition using hidden Markov models", table 1:
# 48 are modelled, and within groups of these confusions are not counted, which leaves 39.
# The glottal stop q is dropped.
_TO_48 = {
    "ax-h": "ax",
    "axr": "er",
    "hv": "hh",
    "ux": "uw",
    "em": "m",
    "nx": "n",
    "eng": "ng",
    "bcl": "vcl",
    "dcl": "vcl",
    "gcl": "vcl",
    "pcl": "cl",
    "tcl": "cl",
    "kcl": "cl",
    "h#": "sil",
    "pau": "sil",
}
_TO_39 = {
    "vcl": "sil",
    "cl": "sil",
    "epi": "sil",
    "el": "l",
    "en": "n",
    "zh": "sh",
    "ao": "aa",
    "ix": "ih",
    "ax": "ah",
}
FOLD_48 = {phone: _TO_48.get(phone, phone) for phone in TIMIT_61 if phone != "q"}
FOLD_39 = {phone: _TO_39.get(folded, folded) for phone, folded in FOLD_48.items()}

_MAX_LINE = 1 << 16  # bytes

# A word's pronunciations, the most usual one first.
Pronunciations = dict[str, list[tuple[str, ...]]]


def fold(phones: Iterable[str], to: int = 39) -> list[str]:
    """61 TIMIT phones as the 48 that are modelled or the 39 that are scored.

    Nothing is merged: two closures in a row stay two silences. Raises VocabularyError for what is
    no TIMIT phone, and for another `to`.

    >>> fold("h# sh iy hv ae dcl d q h#".split())
    ['sil', 'sh', 'iy', 'hh', 'ae', 'sil', 'd', 'sil']
    """
    if to not in (48, 39):
        raise VocabularyError(f"no folding of TIMIT's phones to {to}", "fold to 48 or 39")
    table = FOLD_48 if to == 48 else FOLD_39
    phones = list(phones)
    if unknown := sorted(set(phones) - set(TIMIT_61)):
        raise VocabularyError(f"no TIMIT phones: {' '.join(unknown)}")
    return [table[phone] for phone in phones if phone in table]


def read_lexicon(path: str | Path, *, stress: bool = False) -> Pronunciations:
    """A pronunciation lexicon in CMUdict's format, plain or compressed (.xz, .gz, .bz2).

    Lines are `word PH ON ES # comment`; alternatives are marked `word(2)` or are lines of their
    own; lines that begin with `;;;` are comments. Words are lower-cased, stress digits are removed
    unless asked for. Raises VocabularyError if the file is no such lexicon.
    """
    path = Path(path)
    lexicon: Pronunciations = {}
    number = 0
    opener = COMPRESSED.get(path.suffix)
    try:
        with open_binary(path) as plain, opener(plain) if opener else plain as file:
            for number, raw in enumerate(bounded_lines(file, _MAX_LINE), 1):
                # CMUdict itself is Latin-1 in its older versions.
                line, _ = decode(raw)
                entry = line.split("#")[0].split()
                if not entry or line.startswith(";;;"):
                    continue
                word, *phones = entry
                if not phones:
                    raise VocabularyError(f"{path}:{number}: {word!r} has no pronunciation")
                word = re.sub(r"\(\d+\)$", "", word.lower())
                pronunciation = tuple(p if stress else p.rstrip("012") for p in phones)
                known = lexicon.setdefault(word, [])
                if pronunciation not in known:
                    known.append(pronunciation)
    except UNREADABLE as error:
        raise VocabularyError(f"{path}: not a pronunciation lexicon ({error})") from error
    except ValueError as error:
        raise VocabularyError(
            f"{path}:{number + 1}: not a pronunciation lexicon ({error})"
        ) from error
    if not lexicon:
        raise VocabularyError(f"{path}: holds no pronunciation")
    return lexicon

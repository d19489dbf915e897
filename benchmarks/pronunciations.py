"""How well words are pronounced that a lexicon lacks, on those that are taken out of it.

    python benchmarks/pronunciations.py [--model FOLDER] [--every 30]

The first pronunciation is right if the lexicon gives it, too; any, if it gives one of those found.
The phone error rate is that of the first against the nearest of the lexicon's.
"""

from __future__ import annotations

import argparse
import time

from asr.analysis.metrics import compare
from asr.lexicon import Lexicon
from asr.lexicon.pronounce import Pronouncer
from asr.packaging.bundle import Bundle, bundled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a bundle other than the bundled one")
    parser.add_argument("--every", type=int, default=30, help="[default: 30]")
    options = parser.parse_args()
    bundle = Bundle.load(options.model or bundled())
    if bundle.lexicon_path is None:
        parser.error("the model has no lexicon")
    whole = Lexicon.load(bundle.lexicon_path)
    given: dict[str, list[list[str]]] = {}
    for word, spelled in whole.entries():
        given.setdefault(word, []).append([whole.labels[i] for i in spelled])
    held_out = sorted(given)[:: options.every]
    rest = {word: given[word] for word in given.keys() - {*held_out}}
    lexicon = Lexicon.from_pronunciations(rest, bundle.vocabulary)
    began = time.process_time()
    pronounce = Pronouncer(lexicon)
    learnt = time.process_time() - began
    began = time.process_time()
    found = {w: [[lexicon.labels[i] for i in s] for s in pronounce(w)] for w in held_out}
    pronounced = (time.process_time() - began) / len(held_out)
    first = sum(found[w][0] in given[w] for w in held_out)
    one = sum(any(p in given[w] for p in found[w]) for w in held_out)
    phones = [
        min(
            (compare(" ".join(right), " ".join(found[w][0])).words for right in given[w]),
            key=lambda counts: counts.errors,
        )
        for w in held_out
    ]
    errors, length = sum(c.errors for c in phones), sum(c.reference for c in phones)
    print(f"{len(held_out)} words: the first right {first / len(held_out):.1%}, any")
    print(f"{one / len(held_out):.1%}, phone error rate {errors / length:.1%};")
    print(f"learnt in {learnt:.1f} s of CPU, {1000 * pronounced:.0f} ms a word")


if __name__ == "__main__":
    main()

"""What a list of names brings: how many that were missed are recovered, and how many false alarms.

    python benchmarks/hotwords.py --manifest dev.jsonl [--manifest …] [--boost 4 --boost 8 …]

Names are the capitalised words of the references that do not begin a sentence. The recordings of a
manifest are recognised once without hot words. All names that were missed anywhere then make one
list of hot words, with which every recording is recognised anew. A name is recovered if it now
stands where it was missed, and lost if it is the other way round; a hot word that is not said is a
false alarm, unless it was there before. Names that the model's lexicon lacks are pronounced by its
example; how many of those are recovered stands behind the others.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from asr import audio
from asr.analysis.metrics import Comparison, compare, total
from asr.config import build
from asr.data.manifest import read_audio, read_manifest
from asr.decode.config import DecoderConfig
from asr.lexicon import Lexicon
from asr.packaging.bundle import Bundle, bundled
from asr.recognizer import Recognizer
from asr.text.english import normalize
from asr.types import Utterance

BATCH = 32
_SENTENCE_END = re.compile(r"[.!?:]\W*$")
_SHORTEST = 3  # letters of a name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", action="append", required=True)
    parser.add_argument("--model", help="a bundle other than the bundled one")
    parser.add_argument("--boost", action="append", type=float)
    parser.add_argument("--beam", type=int)
    parser.add_argument("--limit", type=int, help="only the first recordings of each manifest")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    bundle = Bundle.load(options.model or bundled())
    settings = dict(bundle.config.decoder)
    if options.beam:
        settings["beam"] = options.beam
    config = build(DecoderConfig, settings, "decoder")
    lexicon = Lexicon.load(bundle.lexicon_path) if bundle.lexicon_path else None

    for manifest in options.manifest:
        utterances = [u for u in read_manifest(manifest)[: options.limit] if normalize(u.text)]
        waveforms = [read_audio(utterance) for utterance in utterances]
        names = [{*proper_names(utterance.text)} for utterance in utterances]

        def hear(
            hotwords: dict[str, float],
            utterances: Sequence[Utterance] = utterances,
            waveforms: Sequence[audio.Waveform] = waveforms,
        ) -> list[Comparison]:
            recognizer = Recognizer(
                bundle, settings=config, hotwords=hotwords, threads=options.threads
            )
            heard = [
                hypothesis.text
                for first in range(0, len(waveforms), BATCH)
                for hypothesis in recognizer.recognize(waveforms[first : first + BATCH])
            ]
            return [
                compare(normalize(utterance.text), normalize(text))
                for utterance, text in zip(utterances, heard, strict=True)
            ]

        before = hear({})
        missed = _missed(before, names)
        listed = {name for _, name in missed}
        lacking = {name for name in listed if lexicon is not None and name not in lexicon}
        said = sum(word in own for c, own in zip(before, names, strict=True) for word, _ in c.pairs)
        print(
            f"{manifest}: {len(before)} utterances, {said} names, {missed.total()} missed,"
            f" {len(listed)} different ones; the lexicon lacks {_of(missed, lacking)} of the missed"
        )
        print(f"  {'boost':8}{'recovered':>12}{'lost':>6}{'false alarms':>14}{'WER %':>8}")
        rate = 100 * total(c.words for c in before).rate
        print(f"  {'none':8}{'':>12}{'':>6}{'':>14}{rate:8.1f}")
        for boost in options.boost or (config.hotword_boost,):
            after = hear(dict.fromkeys(sorted(listed), boost))
            still = _missed(after, names)
            back, lost = missed - still, (still - missed).total()
            recovered = f"{back.total() - _of(back, lacking)} + {_of(back, lacking)}"
            alarms = (_false(after, listed) - _false(before, listed)).total()
            rate = 100 * total(c.words for c in after).rate
            print(f"  {boost:<8.1f}{recovered:>12}{lost:>6}{alarms:>14}{rate:8.1f}", flush=True)


def proper_names(text: str) -> Iterator[str]:
    """The capitalised words inside the sentences of a text, in their normal form.

    >>> [*proper_names("Then Mary Ann met O'Brien. They left for New York, I think.")]
    ['mary', 'ann', "o'brien", 'new', 'york']
    """
    tokens = text.split()
    for before, token in itertools.pairwise(tokens):
        word = token.strip("\"'“”‘’(),;.!?")
        is_name = word[:1].isupper() and not word.isupper() and len(word) >= _SHORTEST
        if is_name and not _SENTENCE_END.search(before):
            spoken = normalize(word).split()
            if len(spoken) == 1:
                yield spoken[0]


def _missed(
    comparisons: Sequence[Comparison], names: Sequence[set[str]]
) -> Counter[tuple[int, str]]:
    """(utterance, name) of what was said and not heard, where it was said."""
    return Counter(
        (number, said)
        for number, (comparison, own) in enumerate(zip(comparisons, names, strict=True))
        for said, heard in comparison.pairs
        if said in own and heard != said
    )


def _of(names: Counter[tuple[int, str]], chosen: set[str]) -> int:
    """How many of the names are among those chosen."""
    return sum(count for (_, name), count in names.items() if name in chosen)


def _false(comparisons: Sequence[Comparison], hotwords: set[str]) -> Counter[tuple[int, str]]:
    """(utterance, hot word) of what was heard and not said."""
    return Counter(
        (number, heard)
        for number, comparison in enumerate(comparisons)
        for said, heard in comparison.pairs
        if heard in hotwords and heard != said
    )


if __name__ == "__main__":
    main()

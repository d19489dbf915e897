"""Prepare the files that the recipe of the bundled English model needs.

    export ASR_SHARED=…                                    # the shared recordings and texts
    python benchmarks/english.py noises                    # runs/noises.jsonl, runs/rooms.jsonl
    python benchmarks/english.py texts                     # transcripts.txt, novels.txt, …
    python benchmarks/english.py speech --agree 0.7        # runs/speech.jsonl, runs/lexicon.dict.xz
    python benchmarks/english.py lexicon encyclopaedia.txt novels.txt --min-count 50 \\
        --to runs/lm/lexicon.dict.xz
    python benchmarks/english.py average runs/a/best.safetensors runs/b/best.safetensors \\
        --output runs/mean.safetensors

`noises` writes manifests of background noise and room responses without the recordings that are
licensed for non-commercial use only. `texts` writes the transcripts to train and to tune on, and
splits the novels and the dialogues into training and held-out text. `speech` joins the manifests
that the bundled model may learn from and those of `--more FOLDER`, without machine transcripts on
which two recognisers agree less than `--agree`, and with the sources of `--repeat` several times;
it adds to CMUdict the words that it lacks, pronounced by its example. `lexicon` adds to that the
words that texts have often enough. `average` writes the mean of the weights of several networks; a
file named twice counts twice. `english.sh` beside this file is the recipe, from the recordings and
texts to the bundle; docs/experiments/acoustic-training.md and language-models.md tell what it gave.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import lzma
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from asr.data.manifest import read_manifest, write_manifest
from asr.errors import DecodeError
from asr.files import replacing
from asr.lexicon import Lexicon
from asr.lexicon.pronounce import Pronouncer
from asr.lm.text import read_sentences
from asr.text.languages import normalizer
from asr.text.normalize import normalize
from asr.text.phones import read_lexicon
from asr.text.vocabulary import Vocabulary
from asr.train import checkpoint

CORPORA = ("commonvoice-en", "commonvoice-en-pseudo", "speechocean762", "ljspeech", "asterisk-en")
SPEECH = (
    *CORPORA,
    "digits-fsdd",
    "librispeech",
    "librispeech-251",
    "spelled",
    "stories-robotutor",
    "storybooks",
)
# Texts that the weights of the language models should fit, and whose words they are.
DEV = {
    "cv-dev": "commonvoice-en/dev",
    "librispeech-dev": "librispeech/dev",
    "orders-dev": "coffee-commands/dev",
    "spelled-dev": "spelled/train",
}
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
DIALOGUES = ("sgd-dialogues", "taskmaster-3-4", "voice-commands-en", "switchboard-sample")


def write_noises(shared: Path, folder: Path) -> None:
    """Write manifests of background noise and rooms whose licence allows commercial use."""
    for source, name in (("background", "noises"), ("rooms", "rooms")):
        recordings = shared / "noise" / source
        lines = []
        for line in (recordings / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
            clip = json.loads(line)
            if "NC" not in clip["licence"]:
                path = str((recordings / clip["audio"]).resolve())
                row = {"audio_filepath": path, "duration": clip["duration"], "text": ""}
                lines.append(json.dumps(row, ensure_ascii=False))
        write(folder / f"{name}.jsonl", lines)


def write_texts(shared: Path, folder: Path) -> None:
    """Write transcripts to train and tune on, novels and dialogues, and held-out parts of these."""
    speech = shared / "speech"
    train = [u.text for name in CORPORA for u in read_manifest(speech / name / "train.jsonl")]
    write(folder / "transcripts.txt", train)
    for name, manifest in DEV.items():
        write(folder / f"{name}.txt", [u.text for u in read_manifest(speech / f"{manifest}.jsonl")])
    for name, sources, every in (("novels", ["novels-en"], 2500), ("dialogues", DIALOGUES, 5000)):
        lines: list[str] = []
        held_out: list[str] = []
        for source in sources:
            with lzma.open(shared / "text" / f"{source}.txt.xz", "rt", encoding="utf-8") as file:
                for number, line in enumerate(file):
                    (held_out if number % every == 7 else lines).append(line.rstrip("\n"))
        write(folder / f"{name}.txt", lines)
        write(folder / f"{name}-dev.txt", held_out)


def write_speech(
    shared: Path, folder: Path, more: Path | None, min_agree: float, repeat: Mapping[str, int]
) -> None:
    """Write one manifest of all training speech, and a lexicon of all its words."""
    manifests = [
        shared / "speech" / name / "train.jsonl"
        for name in SPEECH
        for _ in range(repeat.get(name, 1))
    ]
    manifests += sorted(more.glob("*.jsonl")) if more else []
    utterances = [
        utterance
        for manifest in manifests
        for utterance in read_manifest(manifest)
        if utterance.extra.get("agree", 1.0) is not None
        and utterance.extra.get("agree", 1.0) >= min_agree
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder / "speech.jsonl", utterances)
    spell_out = normalizer("en")
    words = {word for u in utterances for word in normalize(spell_out(u.text)).split()}
    write_lexicon(shared / "text" / "cmudict.dict.xz", words, folder / "lexicon.dict.xz")


def write_lexicon(dictionary: Path, words: Iterable[str], output: Path) -> None:
    """Write a pronunciation dictionary that also has `words`."""
    with lzma.open(dictionary, "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    with replacing(output) as temporary:
        text = "".join(f"{line}\n" for line in [*lines, *pronounced(dictionary, words)])
        temporary.write_bytes(lzma.compress(text.encode("utf-8")))


def frequent(texts: Sequence[Path], min_count: int) -> list[str]:
    """Words of letters that the texts have at least `min_count` times."""
    counts: Counter[str] = Counter()
    for sentence in read_sentences(texts):  # normalised, it would take an hour
        counts.update(WORD.findall(" ".join(sentence).lower()))
    return [word for word, count in counts.items() if count >= min_count]


def pronounced(dictionary: Path, words: Iterable[str]) -> list[str]:
    """Dictionary lines of the words that a pronunciation dictionary lacks, as far as it can say."""
    known = read_lexicon(str(dictionary))
    first = {word: [list(pronunciations[0])] for word, pronunciations in known.items()}
    phones = Vocabulary.phones(sorted({phone for [own] in first.values() for phone in own}))
    lexicon = Lexicon.from_pronunciations(first, phones)
    pronounce = Pronouncer(lexicon)
    lines = []
    for word in sorted(set(words) - known.keys()):
        with contextlib.suppress(DecodeError):  # letters that the dictionary does not know
            [best, *_] = pronounce(word)
            lines.append(" ".join([word, *(lexicon.labels[label] for label in best)]))
    return lines


def write_average(paths: Sequence[Path], output: Path) -> None:
    """Write the mean of the weights in `paths`, with the metadata of the last file."""
    checkpoint.save(output, checkpoint.average(paths), checkpoint.load_metadata(paths[-1]))


def write(path: Path, lines: Sequence[str]) -> None:
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    noises = commands.add_parser("noises", help="manifests of noise and rooms")
    noises.add_argument("--to", type=Path, default=Path("runs"), help="[default: runs]")
    texts = commands.add_parser("texts", help="text for the language models")
    texts.add_argument("--to", type=Path, default=Path(), help="[default: the current folder]")
    speech = commands.add_parser("speech", help="all training speech, and a lexicon of its words")
    speech.add_argument("--to", type=Path, default=Path("runs"), help="[default: runs]")
    speech.add_argument("--more", type=Path, metavar="FOLDER", help="further manifests")
    speech.add_argument(
        "--agree", type=float, default=0.0, help="least agreement of machine transcripts"
    )
    speech.add_argument(
        "--repeat", action="append", default=[], metavar="SOURCE=N", help="take a source N times"
    )
    lexicon = commands.add_parser("lexicon", help="the lexicon with the frequent words of texts")
    lexicon.add_argument("texts", type=Path, nargs="+")
    lexicon.add_argument("--min-count", type=int, default=50, help="[default: 50]")
    lexicon.add_argument(
        "--dictionary", type=Path, default="runs/lexicon.dict.xz", help="what it begins with"
    )
    lexicon.add_argument("--to", type=Path, required=True, metavar="FILE")
    mean = commands.add_parser("average", help="mean of the weights of several networks")
    mean.add_argument("weights", type=Path, nargs="+")
    mean.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "average":
        write_average(options.weights, options.output)
        return
    if options.command == "lexicon":
        words = frequent(options.texts, options.min_count)
        write_lexicon(options.dictionary, words, options.to)
        return
    if "ASR_SHARED" not in os.environ:
        parser.error("ASR_SHARED is not set: export the folder of the shared recordings")
    shared = Path(os.environ["ASR_SHARED"])
    if options.command == "speech":
        repeat = {name: int(n) for name, _, n in (r.partition("=") for r in options.repeat)}
        if unknown := repeat.keys() - set(SPEECH):
            parser.error(f"--repeat: no source {' '.join(unknown)}; there are {' '.join(SPEECH)}")
        write_speech(shared, options.to, options.more, options.agree, repeat)
    else:
        (write_noises if options.command == "noises" else write_texts)(shared, options.to)


if __name__ == "__main__":
    main()

"""Training a language model beside KenLM's lmplz: perplexity, time and memory on the same text.

    python benchmarks/lm.py corpus.txt [more.txt.xz …] --held-out dev.txt [--words 15000000]

lmplz is built from KenLM's sources on first use (a compiler, cmake and Boost's headers are needed:
`apt-get install g++ cmake libboost-program-options-dev libboost-thread-dev libboost-system-dev`),
or is where --lmplz says. The text is normalised once, outside of what is timed, and both programs
get the same file. Perplexity is computed from both ARPA files by the same code and leaves unknown
words out; that of the compact binary shows what its quantised weights cost.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from environments import lmplz

from asr.lm.evaluation import Prediction, evaluate
from asr.lm.files import read_arpa
from asr.lm.ngram import NGram
from asr.lm.text import read_sentences
from asr.text.english import normalize
from asr.text.vocabulary import UNKNOWN_ID


@dataclass(frozen=True)
class Run:
    """What a process took; memory is its peak resident size, that of its mapped files included."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="+")
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--prune", default="0,0,1,2")
    parser.add_argument("--words", type=int, help="of the texts' beginning; all unless given")
    parser.add_argument("--lmplz", type=Path, help="KenLM's program, if it is there already")
    options = parser.parse_args()
    held_out = list(read_sentences([options.held_out], normalize))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        words = _write_normalized(options.texts, text, options.words)
        print(f"{words} words, order {options.order}, pruned {options.prune}")
        print(f"{'':13}{'perplexity':>12}{'unknown %':>11}{'time s':>8}{'CPU s':>8}{'MB':>7}")

        order = str(options.order)
        binary, arpa = folder / "ours.bin", folder / "ours.arpa"
        command = [sys.executable, "-m", "asr", "lm", "train", str(text), "--no-normalize"]
        command += ["--order", order, "--prune", options.prune, "--output"]
        ran = _run([*command, str(binary)])
        _report("ours, binary", evaluate(NGram.load(binary), held_out), ran)
        ran = _run([*command, str(arpa)])
        _report("ours, ARPA", _predict(arpa, held_out), ran)
        program = options.lmplz or lmplz()
        if program:
            arpa = folder / "kenlm.arpa"
            command = [str(program), "-o", order, "-S", "2G", "-T", str(folder)]
            command += ["--prune", *options.prune.split(","), "--text", str(text)]
            ran = _run([*command, "--arpa", str(arpa)])
            _report("KenLM lmplz", _predict(arpa, held_out), ran)
        else:
            print("KenLM lmplz   could not be built")


def _write_normalized(texts: Sequence[str], path: Path, limit: int | None) -> int:
    """Write one sentence a line, until there are `limit` words; return the number of words."""
    words = 0
    with path.open("w", encoding="utf-8") as file:
        for sentence in read_sentences(texts, normalize):
            if limit and words >= limit:
                break
            file.write(" ".join(sentence) + "\n")
            words += len(sentence)
    return words


def _run(command: Sequence[str]) -> Run:
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed with status {process.returncode}")
    elapsed = time.perf_counter() - began
    return Run(elapsed, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _predict(arpa: Path, sentences: Sequence[Sequence[str]]) -> Prediction:
    """As `asr.lm.evaluation.evaluate`, with the weights of an ARPA file as they are."""
    model = read_arpa(arpa)
    known = [
        model.words.index(word) != UNKNOWN_ID for words in sentences for word in (*words, "</s>")
    ]
    log_prob = float(np.concatenate(model.score(sentences))[known].sum())
    words = sum(map(len, sentences))
    return Prediction(len(sentences), words, len(known) - sum(known), log_prob)


def _report(name: str, prediction: Prediction, run: Run) -> None:
    unknown = 100 * prediction.unknown / prediction.words
    print(
        f"{name:13}{prediction.perplexity:12.2f}{unknown:11.2f}"
        f"{run.seconds:8.1f}{run.cpu_seconds:8.1f}{run.megabytes:7.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()

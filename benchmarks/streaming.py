"""Error rate against latency: recordings heard live by one or more models.

    python benchmarks/streaming.py --manifest dev.jsonl --model asr/bundled/en \
        --model models/lc-960 --model models/lc-330 --model models/uni --limit 100

Every recording is fed in blocks of 100 ms, as fast as it goes, with a second of silence behind it.
The latency of a word is how much sound behind its end had been fed when the word was first shown
in its place and then stayed; what the machine needs to compute comes on top (the real-time factor
tells whether it keeps up). Settled: the same for when it was first in `stable`, and the share of
such words that the final had not. Final: how much sound behind its last word a final waited for.
Taken back: the share of the words shown that a later result has not.
"""

from __future__ import annotations

import argparse
import difflib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr import audio
from asr.acoustics import OnnxEngine
from asr.analysis.metrics import Comparison, compare, confidence_interval, total
from asr.audio import Waveform
from asr.data.manifest import read_audio, read_manifest
from asr.recognizer import Recognizer, load
from asr.text.languages import normalizer
from asr.types import StreamEvent

BLOCK = audio.SAMPLE_RATE // 10
SILENCE = np.zeros(audio.SAMPLE_RATE, np.float32)


@dataclass
class Measured:
    """Of one model: comparisons, latencies (s) of words, seconds of sound and of computing."""

    comparisons: list[Comparison] = field(default_factory=list)
    shown: list[float] = field(default_factory=list)
    stable: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    n_settled: int = 0
    n_unsettled: int = 0  # of those, what the final had not
    n_shown: int = 0
    n_taken_back: int = 0
    heard: float = 0.0
    computed: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", required=True, help="folder of a model; again")
    parser.add_argument("--manifest", action="append", required=True, help="recordings; again")
    parser.add_argument("--limit", type=int, help="recordings of each manifest")
    parser.add_argument("--decoder", choices=["beam", "greedy"], default="beam")
    arguments = parser.parse_args()
    for manifest in arguments.manifest:
        utterances = read_manifest(manifest)[: arguments.limit]
        print(f"\n{'/'.join(Path(manifest).parts[-2:])}, {len(utterances)} recordings\n")
        print(
            "| model | chunk + ahead, ms | WER % (95 %) | shown after, ms | settled after"
            " | settled wrongly, % | taken back, % | final after | RTF |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for model in arguments.model:
            recognizer = load(model, decoder=arguments.decoder, threads=1)
            normalize = normalizer(recognizer.bundle.config.language)
            measured = Measured()
            recognizer.transcribe(SILENCE, audio.SAMPLE_RATE)  # what is loaded or compiled once
            for utterance in utterances:
                if reference := normalize(utterance.text):
                    waveform = np.concatenate([read_audio(utterance), SILENCE])
                    heard = listen(recognizer, waveform, measured)
                    measured.comparisons.append(compare(reference, normalize(heard)))
            print(row(Path(model).name, recognizer, measured), flush=True)


def listen(recognizer: Recognizer, waveform: Waveform, measured: Measured) -> str:
    """The text of a recording that is fed block by block."""
    began = time.process_time()
    stream = recognizer.stream()
    texts: list[str] = []
    partials: list[tuple[float, StreamEvent]] = []
    for first in range(0, len(waveform) + 1, BLOCK):
        events = stream.feed(waveform[first : first + BLOCK])
        at_end = first + BLOCK > len(waveform)
        for event in [*events, *(stream.finish() if at_end else ())]:
            partials.append((stream.duration, event))
            if event.is_final:
                texts.append(event.text)
                add(event, partials, measured)
                partials = []
    measured.computed += time.process_time() - began
    measured.heard += stream.duration
    return " ".join(texts)


def add(final: StreamEvent, shown: Sequence[tuple[float, StreamEvent]], measured: Measured) -> None:
    """Count an utterance; `shown`: its results with the seconds fed by then, the final included."""
    if not final.words:
        return
    measured.shown += latencies(final, [(time, event.text) for time, event in shown])
    measured.stable += latencies(final, [(time, event.stable) for time, event in shown])
    if final.rule:
        measured.final.append(shown[-1][0] - final.words[-1].end)
    settled = max(
        (event.stable.split() for _, event in shown if not event.is_final), key=len, default=[]
    )
    measured.n_settled += len(settled)
    measured.n_unsettled += len(settled) - len(common(settled, final.text.split()))
    before: list[str] = []
    for _, event in shown:
        now = event.text.split()
        n_same = len(common(before, now))
        measured.n_shown += len(now) - n_same
        measured.n_taken_back += len(before) - n_same
        before = now


def common(one: list[str], other: list[str]) -> list[int]:
    """Which words of `one` are in `other`, in the same order."""
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return [k for block in blocks for k in range(block.a, block.a + block.size)]


def latencies(final: StreamEvent, shown: Sequence[tuple[float, str]]) -> list[float]:
    """Seconds from the end of each word of `final` to when it was in its place to stay."""
    words = final.text.split()
    since = [shown[-1][0]] * len(words)
    waiting = set(range(len(words)))
    for at, text in reversed(shown):
        waiting &= set(common(words, text.split()))
        for k in waiting:
            since[k] = at
    return [time - word.end for time, word in zip(since, final.words, strict=True)]


def row(name: str, recognizer: Recognizer, measured: Measured) -> str:
    """A line of the table; latencies as median and 95th percentile."""
    counts = [comparison.words for comparison in measured.comparisons]
    low, high = confidence_interval(counts)
    chunks = OnnxEngine(recognizer.bundle.model_path).chunks
    shift = 1000 * recognizer.bundle.config.features.frame_shift
    context = "whole segments"
    if chunks is not None:
        context = f"{chunks.size * shift:.0f} + {chunks.right_context * shift:.0f}"
    times = [
        f"{1000 * np.median(found):.0f}, {1000 * np.quantile(found, 0.95):.0f}"
        for found in (measured.shown, measured.stable, measured.final)
        for found in [found or [np.nan]]
    ]
    wrong = 100 * measured.n_unsettled / max(1, measured.n_settled)
    back = 100 * measured.n_taken_back / max(1, measured.n_shown)
    error_rate = f"{100 * total(counts).rate:.1f} ({100 * low:.1f}–{100 * high:.1f})"
    speed = measured.computed / measured.heard
    return (
        f"| {name} | {context} | {error_rate} | {times[0]} | {times[1]}"
        f" | {wrong:.1f} | {back:.1f} | {times[2]} | {speed:.3f} |"
    )


if __name__ == "__main__":
    main()

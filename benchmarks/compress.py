"""What smaller networks cost: errors, size and speed for every way of `asr compress`.

    python benchmarks/compress.py --manifest dev.jsonl --listen train.jsonl --setting rank=96 \\
      --setting cells=192 --setting cells=192,rank=96 --setting zeros=0.5 \\
      --trained models/light --picture curve.png

Each setting makes a model of --model that is not trained on; --trained adds models that were, or
any others. --listen is for cells, as in `asr compress`. All hear the same recordings as wholes, on
one core. Network and all: CPU time (ms) for a second of audio. Compressed: the network's file in a
wheel or a zip, where zeros cost little.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from asr import audio
from asr.acoustics import Heads, OnnxEngine
from asr.analysis import plots
from asr.analysis.metrics import compare, total
from asr.config import build
from asr.data.manifest import read_audio, read_manifest
from asr.decode.config import DecoderConfig
from asr.packaging.bundle import ONNX, Bundle, bundled
from asr.packaging.compression import compress_model, deflated_size
from asr.recognizer import Recognizer
from asr.text.languages import normalizer
from asr.types import Utterance

SETTINGS = (
    *("rank=192", "rank=128", "rank=96", "rank=64", "rank=48"),
    *("zeros=0.5", "zeros=0.7", "cells=224", "cells=192", "cells=160", "cells=192,rank=96"),
)
HEADER = "| model | WER % | CER % | parameters, M | MB | compressed MB | network ms | all ms |"


@dataclass(frozen=True)
class Point:
    """One model: error rates, sizes of its network (MB), CPU time (ms) for a second of audio."""

    name: str
    trained: bool
    wer: float
    cer: float
    parameters: int
    megabytes: float
    compressed: float
    network: float
    whole: float

    def row(self) -> str:
        return (
            f"| {self.name}{', trained on' if self.trained else ''} | {100 * self.wer:.1f} "
            f"| {100 * self.cer:.1f} | {self.parameters / 1e6:.2f} | {self.megabytes:.2f} "
            f"| {self.compressed:.2f} | {self.network:.2f} | {self.whole:.2f} |"
        )


class TimedEngine(OnnxEngine):
    """Counts the CPU time (s) that the network takes."""

    seconds = 0.0

    def all_log_probs(self, features: Sequence[np.ndarray]) -> list[Heads]:
        began = time.process_time()
        heads = super().all_log_probs(features)
        self.seconds += time.process_time() - began
        return heads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--limit", type=int, help="only the first recordings")
    parser.add_argument("--model", type=Path, help="a bundle; the bundled English one by default")
    parser.add_argument("--setting", action="append", type=parse, metavar="cells=N,rank=N,zeros=X")
    parser.add_argument("--listen", type=Path, help="recordings that tell which cells can go")
    parser.add_argument("--trained", action="append", type=Path, default=[], metavar="BUNDLE")
    parser.add_argument("--beam", type=int, help="hypotheses of the search; the model's own")
    parser.add_argument("--picture", type=Path, help="PNG, SVG or PDF of errors over size and time")
    options = parser.parse_args()
    utterances = read_manifest(options.manifest)[: options.limit]
    settings = options.setting or [parse(text) for text in SETTINGS]
    if not options.listen and any("cells" in setting for setting in settings):
        parser.error("cells need --listen MANIFEST: which of them can go is learnt from recordings")
    model = options.model or bundled()
    points = []
    print(HEADER)
    print("| --- |" + " ---: |" * (HEADER.count("|") - 2))
    made = measured(model, settings, options.listen, options.trained, utterances, options.beam)
    for point in made:
        points.append(point)
        print(point.row(), flush=True)
    if options.picture:
        plots.save(picture(points), options.picture)


def parse(text: str) -> dict[str, Any]:
    """Settings of `compress_model`.

    >>> parse("cells=192,zeros=0.5")
    {'cells': 192, 'zeros': 0.5}
    """
    kinds = {"cells": int, "rank": int, "zeros": float}
    pairs = [part.partition("=") for part in text.split(",")]
    if unknown := {name for name, _, _ in pairs} - kinds.keys():
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not one of {', '.join(kinds)}")
    return {name: kinds[name](value) for name, _, value in pairs}


def measured(
    model: Path,
    settings: Sequence[dict[str, Any]],
    listen: Path | None,
    trained: Sequence[Path],
    utterances: Sequence[Utterance],
    beam: int | None = None,
) -> Iterator[Point]:
    """The model itself, what the settings make of it, and the models that were trained on."""
    waveforms = [read_audio(u) for u in utterances]
    yield measure(Bundle.load(model), "whole", utterances, waveforms, beam)
    for setting in settings:
        name = ", ".join(f"{key} {value:g}" for key, value in setting.items())
        with tempfile.TemporaryDirectory() as folder:
            heard = listen if "cells" in setting else None
            bundle = compress_model(model, Path(folder, "model"), listen=heard, **setting)
            yield measure(bundle, name, utterances, waveforms, beam)
    for path in trained:
        point = measure(Bundle.load(path), path.name, utterances, waveforms, beam)
        yield replace(point, trained=True)


def measure(
    bundle: Bundle,
    name: str,
    utterances: Sequence[Utterance],
    waveforms: Sequence[np.ndarray],
    beam: int | None = None,
) -> Point:
    engine = TimedEngine(bundle.model_path, threads=1)
    decoder = build(DecoderConfig, bundle.config.decoder, "decoder")
    decoder = replace(decoder, beam=beam or decoder.beam)
    recognizer = Recognizer(bundle, settings=decoder, engine=engine, threads=1)
    recognizer.recognize(waveforms[:1])  # compiles the search
    engine.seconds, began = 0.0, time.process_time()
    heard = recognizer.recognize(waveforms)
    took = time.process_time() - began
    normalize = normalizer(bundle.config.language)
    comparisons = [
        compare(normalize(utterance.text), normalize(hypothesis.text))
        for utterance, hypothesis in zip(utterances, heard, strict=True)
    ]
    seconds = sum(map(len, waveforms)) / audio.SAMPLE_RATE
    return Point(
        name,
        trained=False,
        wer=total(c.words for c in comparisons).rate,
        cer=total(c.characters for c in comparisons).rate,
        parameters=bundle.config.model.get("parameters", 0),
        megabytes=bundle.files[ONNX] / 1e6,
        compressed=deflated_size(bundle.model_path) / 1e6,
        network=1000 * engine.seconds / seconds,
        whole=1000 * took / seconds,
    )


def picture(points: Sequence[Point]) -> Figure:
    """Word errors over the compressed size and over the time of the network.

    A colour for each way to compress; its setting stands at each point.
    """
    figure = Figure(figsize=(plots.WIDTH, 5), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    kinds: dict[str, list[Point]] = {}
    for point in points:
        kind = "further trained" if point.trained else re.sub(r" [\d.]+", "", point.name)
        kinds.setdefault(kind, []).append(point)
    for panel, value, label in (
        (panels[0], "compressed", "compressed size (MB)"),
        (panels[1], "network", "CPU time (ms per second of audio)"),
    ):
        for kind, some in kinds.items():
            x, y = [getattr(p, value) for p in some], [100 * p.wer for p in some]
            panel.plot(x, y, "o-", markersize=5, linewidth=0.6, label=kind)
            for point, place in zip(some, zip(x, y, strict=True), strict=True):
                amount = ", ".join(re.findall(r" ([\d.]+)", point.name)) or point.name
                style = {"textcoords": "offset points", "fontsize": plots.SMALL}
                panel.annotate(amount, place, (5, 3), color=plots.INK, **style)
        panel.set(xlabel=label, xlim=(0, 1.15 * max(getattr(p, value) for p in points)))
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("WER (%)")
    figure.suptitle("Word errors of compressed networks")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


if __name__ == "__main__":
    main()

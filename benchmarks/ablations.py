"""What depth, width, frame rate, units, a lower head and augmentation are worth at first.

    export ASR_SHARED=…                                  # the shared recordings
    python benchmarks/ablations.py --jobs 2              # writes docs/ablations.md

Each row is the bundled model's network with one thing changed, trained by CTC from random weights
for the same number of epochs, and searched with the bundled language model: the lowest word error
rate of a few weights of it. A row that was finished before is not run again, one that was cut off
goes on: everything is under --runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asr.analysis.metrics import ErrorCounts, compare, confidence_interval, total
from asr.config import build
from asr.data.manifest import read_audio, read_manifest, write_manifest
from asr.decode.config import DecoderConfig
from asr.files import replacing
from asr.packaging.bundle import Bundle, bundled
from asr.packaging.package import package_run
from asr.recognizer import Recognizer
from asr.text.normalize import normalize
from asr.types import Utterance

SHARED = Path(os.environ.get("ASR_SHARED", "../shared"))
SOURCES = ("commonvoice-en", "ljspeech")
LM_WEIGHTS = (0.6, 0.9, 1.2)
SEARCH = {"closed": True, "word_bonus": -0.5, "beam": 400, "horizon": 30.0}
EPOCHS = 6
LEXICON = SHARED / "text" / "cmudict.dict.xz"

# What is changed -> (overrides of `asr train`, the head that is searched)
ROWS: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "phones"),
    "2 layers": (("model.layers=2", "heads.lower.layer=1"), "phones"),
    "192 cells": (("model.hidden_size=192",), "phones"),
    "20 ms a row": (("features.stack=2", "features.stride=2", "data.batch_frames=3000"), "phones"),
    "characters searched": ((), "characters"),
    "200 pieces": (
        ("~heads.phones", f"heads.lower.lexicon={LEXICON}", "heads.characters.units=pieces"),
        "characters",
    ),
    "no phones below": (("~heads.lower",), "phones"),
    "no augmentation": (("augment=none",), "phones"),
}


def run_of(row: str, runs: Path) -> Path:
    """Rows that train alike share a run."""
    first = next(name for name, (overrides, _) in ROWS.items() if overrides == ROWS[row][0])
    return runs / first.replace(" ", "-").replace(",", "")


def settings(row: str, runs: Path, epochs: int) -> list[str]:
    """Overrides of `asr train`."""
    changed = list(ROWS[row][0])
    base = [
        "experiment=english_crf",
        "heads.phones.criterion=ctc",
        "heads.phones.layer=null",
        "heads.characters.criterion=ctc",
        f"data.train=[{','.join(map(str, manifests(SOURCES)))}]",
        f"data.noises={runs / 'background.jsonl'}",
        f"data.rooms={runs / 'rooms.jsonl'}",
        "data.sorted_first_epoch=true",
        "optimizer.learning_rate=1.5e-3",
        "optimizer.warmup_steps=200",
        "optimizer.decay=0.5",
        f"trainer.epochs={epochs}",
        "trainer.masks_from=2",
        f"run={run_of(row, runs)}",
    ]
    if "~heads.phones" in changed:  # of which settings cannot be set, once it is gone
        base = [override for override in base if not override.startswith("heads.phones.")]
    names = {override.split("=")[0] for override in changed}
    return [override for override in base if override.split("=")[0] not in names] + changed


def manifests(sources: Sequence[str]) -> list[Path]:
    return [SHARED / "speech" / source / "train.jsonl" for source in sources]


def write_noises(runs: Path) -> None:
    """Manifests of noise and of rooms, those for any use."""
    for name in ("background", "rooms"):
        folder = SHARED / "noise" / name
        clips = map(json.loads, (folder / "manifest.jsonl").read_text().splitlines())
        write_manifest(
            runs / f"{name}.jsonl",
            [
                Utterance(str((folder / clip["audio"]).resolve()), clip["duration"], "")
                for clip in clips
                if "NC" not in clip["licence"]
            ],
        )


def train(row: str, runs: Path, epochs: int) -> bool:
    """In a process of its own, of which the processor time is kept; True if it came to its end."""
    run = run_of(row, runs)
    if (run / "best.safetensors").exists():
        return True
    run.mkdir(parents=True, exist_ok=True)
    with (run / "output.txt").open("a") as output:
        command = [sys.executable, "-m", "asr", "train", *settings(row, runs, epochs)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
    with (run / "seconds.txt").open("a") as spent:
        print(usage.ru_utime + usage.ru_stime, file=spent)
    print(f"{run.name}: {'trained' if status == 0 else f'FAILED, see {output.name}'}", flush=True)
    return status == 0


def measure(row: str, runs: Path, dev: Path) -> dict[str, float]:
    """Word errors with the best weight of the language model, their 95 % interval, and the cost."""
    run, head = run_of(row, runs), ROWS[row][1]
    kept = run / f"{head}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    folder = run / head
    shutil.rmtree(folder, ignore_errors=True)  # of a script that was cut off
    package_run(
        run,
        folder,
        name=run.name,
        head=head,
        lm=bundled() / "lm.bin",
        lexicon=LEXICON if head == "phones" else None,
    )
    bundle = Bundle.load(folder)
    utterances = [u for u in read_manifest(dev) if normalize(u.text)]
    waveforms = [read_audio(u) for u in utterances]
    best: list[ErrorCounts] = []
    for weight in LM_WEIGHTS:
        config = build(DecoderConfig, {**SEARCH, "lm_weight": weight})
        heard = Recognizer(bundle, settings=config, threads=1).recognize(waveforms)
        counts = [
            compare(normalize(u.text), h.text).words for u, h in zip(utterances, heard, strict=True)
        ]
        if not best or total(counts).rate < total(best).rate:
            best = counts
    low, high = confidence_interval(best)
    result = {
        "wer": total(best).rate,
        "low": low,
        "high": high,
        "parameters": bundle.config.model["parameters"],
        "minutes": sum(map(float, (run / "seconds.txt").read_text().split())) / 60,
    }
    with replacing(kept) as path:
        path.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return result


def report(results: dict[str, dict[str, float]], epochs: int) -> str:
    train = [u for manifest in manifests(SOURCES) for u in read_manifest(manifest)]
    hours = sum(u.duration for u in train) / 3600
    lines = [
        "# Ablations",
        "",
        "The network of the bundled English model with one thing changed at a time, trained by CTC "
        f"from random weights on {hours:.1f} hours ({', '.join(SOURCES)}) for {epochs} epochs, "
        "with one seed: far less training than the bundled model had. "
        "Word errors on `commonvoice-en/dev` "
        f"with the bundled language model at the best of the weights {LM_WEIGHTS}, beam "
        f"{SEARCH['beam']}, in 8 bits; a difference within the interval may be noise. Cost: "
        "minutes of one core.",
        "",
        "```bash",
        "python benchmarks/ablations.py" + ("" if epochs == EPOCHS else f" --epochs {epochs}"),
        "```",
        "",
        "| changed | overrides of `asr train` | WER % (95 %) | parameters, M | cost, min |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row, result in results.items():
        overrides, head = ROWS[row]
        shown = " ".join(overrides).replace(str(SHARED), "…")
        lines.append(
            f"| {row} | {f'`{shown}`' if shown else f'the head of {head}'} "
            f"| {100 * result['wer']:.1f} ({100 * result['low']:.1f}–{100 * result['high']:.1f}) "
            f"| {result['parameters'] / 1e6:.1f} | {result['minutes']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--output", type=Path, default=Path("docs/ablations.md"))
    options = parser.parse_args()
    runs = options.runs.resolve()
    runs.mkdir(parents=True, exist_ok=True)
    write_noises(runs)
    alike = {run_of(row, runs): row for row in reversed(options.rows)}
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = reversed(alike.values())
        if not all(pool.map(lambda row: train(row, runs, options.epochs), rows)):
            raise SystemExit("some rows are not trained; the same command goes on")
    dev = SHARED / "speech" / "commonvoice-en" / "dev.jsonl"
    results = {row: measure(row, runs, dev) for row in options.rows}
    with replacing(options.output) as path:
        path.write_text(report(results, options.epochs), encoding="utf-8")
    print(options.output)


if __name__ == "__main__":
    main()

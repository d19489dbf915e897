"""Table 1 of Graves, Mohamed & Hinton 2013 with our figures beside the paper's.

    asr-prepare timit --from-archive timit_LDC93S1.tgz --to corpora   # TIMIT, bought from the LDC
    python benchmarks/graves2013.py --seeds 1 2 3 --jobs 4

trains every row with every seed (those that are finished are not trained again, one that was cut
off goes on), decodes the core test set with a beam of 100 (transducers: 20) and no language model,
folds 61 phones to 39, and writes RUNS/table.md. Overrides of `asr train` may follow, for all rows.
PreTrans starts from the CTC-3l-250h of the same seed and from a phone prediction network, which are
trained first if they are not there.

Without TIMIT, the sample of it that is openly distributed shows the same trends on 93 utterances,
two speakers of which are for development and two for the test (their figures are not the paper's):

    export ASR_SHARED=…                                  # the shared recordings
    python benchmarks/graves2013.py --sample optimizer=adam optimizer.learning_rate=0.002 \\
        data.batch_utterances=4 trainer.epochs=60 trainer.patience=15

and one network overfits the whole sample, to a phone error rate below 5 %:

    python benchmarks/graves2013.py --overfit
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from asr.analysis.diagnostics import Network, load_network
from asr.analysis.metrics import ErrorCounts, compare, total
from asr.data.manifest import read_audio, read_manifest, write_manifest
from asr.decode import BeamSearch, Decoder
from asr.decode.transducer import beam_search
from asr.features import Features
from asr.files import replacing
from asr.models.transducer import TorchSteps, TransducerHead
from asr.text.phones import fold
from asr.types import Utterance

BEAM = 100
TRANSDUCER_BEAM = 20  # every step runs a network
# Row -> name in the paper, its millions of weights, its phone error rate (%).
PUBLISHED = {
    "ctc_3l_500h_tanh": ("CTC-3l-500h-tanh", 3.7, 37.6),
    "ctc_1l_250h": ("CTC-1l-250h", 0.8, 23.9),
    "ctc_1l_622h": ("CTC-1l-622h", 3.8, 23.0),
    "ctc_2l_250h": ("CTC-2l-250h", 2.3, 21.0),
    "ctc_3l_421h_uni": ("CTC-3l-421h-uni", 3.8, 19.6),
    "ctc_3l_250h": ("CTC-3l-250h", 3.8, 18.6),
    "ctc_5l_250h": ("CTC-5l-250h", 6.8, 18.4),
    "trans_3l_250h": ("Trans-3l-250h", 4.3, 18.3),
    "pretrans_3l_250h": ("PreTrans-3l-250h", 4.3, 17.7),
}
PHONE_LM = "language_model/timit_phones"


def split_sample(folder: Path) -> dict[str, Path]:
    """Manifests of phones: two speakers of the sample for dev, two for the test."""
    shared = Path(os.environ.get("ASR_SHARED", "../shared")) / "speech" / "timit-sample"
    utterances = read_manifest(shared / "train.jsonl")
    speakers = sorted({u.speaker or "" for u in utterances})
    test, dev = speakers[::6], speakers[1::6]
    parts: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": [], "all": []}
    for utterance in utterances:
        spelled = replace(utterance, text=" ".join(p[2] for p in utterance.extra["phones"]))
        speaker = utterance.speaker or ""
        parts["test" if speaker in test else "dev" if speaker in dev else "train"].append(spelled)
        parts["all"].append(spelled)
    manifests = {name: folder / f"{name}-phones.jsonl" for name in parts}
    for name, manifest in manifests.items():
        write_manifest(manifest, parts[name])
    return manifests


def train(row: str, run: Path, overrides: Sequence[str]) -> bool:
    """One run, in a process of its own; True if it came to its end."""
    if row == "pretrans_3l_250h":
        sources = pretrained(run, overrides)
        if sources is None:
            return False
        overrides = [*overrides, f"trainer.init=[{sources}]"]
    return run_training([f"experiment=graves2013/{row}", f"run={run}", *overrides], run)


def pretrained(run: Path, overrides: Sequence[str]) -> str | None:
    """What PreTrans begins with, trained where it is missing: a CTC network and a phone LM."""
    _, seed = run.name.rsplit("-", 1)
    ctc, lm = run.parent / f"ctc_3l_250h-{seed}", run.parent / f"phone_lm-{seed}"
    data = [o for o in overrides if o.startswith(("data.train=", "data.dev=", "trainer.seed="))]
    settings = ["task=language_model", f"experiment={PHONE_LM}", f"run={lm}", *data]
    if not (ctc / "best.safetensors").exists() and not train("ctc_3l_250h", ctc, overrides):
        return None
    if not run_training(settings, lm):  # which keeps its best from the first look on: always asked
        return None
    return f"'{ctc}','heads.phones.prediction={lm}/best.safetensors'"


def run_training(settings: Sequence[str], run: Path) -> bool:
    run.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "asr", "train", *settings]
    with (run / "output.txt").open("a") as output:
        status = subprocess.run(command, stdout=output, stderr=output, check=False).returncode
    done = status == 0 and (run / "best.safetensors").exists()
    state = "trained" if done else f"FAILED, see {run / 'output.txt'}"
    print(f"{run.name}: {state}, {(time.monotonic() - began) / 60:.1f} min", flush=True)
    return done


def evaluate(run: Path, manifest: Path) -> dict[str, float]:
    """Phone error rates (61 labels folded to 39) on a manifest whose text are phones."""
    network = load_network(run)
    extract = Features(network.features)
    decode = decoder_of(network)
    shift = network.features.frame_shift * network.rate
    counts: list[ErrorCounts] = []
    for utterance in read_manifest(manifest):
        waveform = read_audio(utterance, network.features.sample_rate)
        text = decode(network.log_probs(extract(waveform)), shift)
        reference, heard = (" ".join(fold(t.split())) for t in (utterance.text, text))
        counts.append(compare(reference, heard).words)
    parameters = sum(p.numel() for p in network.model.parameters())
    return {"per": 100 * total(counts).rate, "parameters": parameters}


def decoder_of(network: Network) -> Callable[[np.ndarray, float], str]:
    """The search that suits the network's head."""
    head = network.model.head()
    if isinstance(head, TransducerHead):
        steps, most = TorchSteps(head), head.config.most_symbols

        def search(rows: np.ndarray, shift: float) -> str:
            (best,) = beam_search(steps, rows, beam=TRANSDUCER_BEAM, max_symbols=most)
            return network.vocabulary.decode(best.symbols)

        return search
    search = BeamSearch(network.vocabulary, beam=BEAM, word_bonus=0.0)
    return lambda log_probs, shift: Decoder(search, shift).decode(log_probs)[0].text


def result(run: Path, manifest: Path) -> dict[str, float]:
    """As `evaluate`, kept beside the run."""
    kept = run / "per.json"
    if not kept.exists():
        with replacing(kept) as path:
            path.write_text(json.dumps(evaluate(run, manifest)), encoding="utf-8")
    return json.loads(kept.read_text(encoding="utf-8"))


def table(rows: Sequence[str], runs: Path, seeds: Sequence[int], manifest: Path, what: str) -> str:
    lines = [
        f"Phone error rates (%) of {what}, beam {BEAM} (transducers {TRANSDUCER_BEAM}), no",
        "language model, 61 phones scored as 39;",
        f"ours: mean of {len(seeds)} seed(s), lowest and highest.",
        "",
        "| network | weights, paper | weights, ours | PER, paper (TIMIT core test) | PER, ours |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        name, weights, published = PUBLISHED[row]
        results = [result(runs / f"{row}-{seed}", manifest) for seed in seeds]
        pers = [r["per"] for r in results]
        ours = f"{statistics.mean(pers):.1f} ({min(pers):.1f}–{max(pers):.1f})"
        millions = results[0]["parameters"] / 1e6
        lines.append(f"| {name} | {weights} M | {millions:.1f} M | {published} | {ours} |")
    return "\n".join(lines) + "\n"


def overfit(runs: Path, row: str, overrides: Sequence[str]) -> None:
    manifest = split_sample(runs)["all"]
    run = runs / f"{row}-overfit"
    settings = [
        f"data.train=[{manifest}]",
        f"data.dev=[{manifest}]",
        "data.batch_utterances=4",
        "optimizer=adam",
        "optimizer.learning_rate=0.003",
        "noise=none",
        "trainer.epochs=120",
        "trainer.patience=120",
        *overrides,
    ]
    if not (run / "best.safetensors").exists() and not train(row, run, settings):
        raise SystemExit(1)
    per = result(run, manifest)["per"]
    print(f"{row}, on the {len(read_manifest(manifest))} utterances it was trained on: {per:.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--runs", type=Path, default=Path("runs/graves2013"))
    parser.add_argument("--test", type=Path, default=Path("corpora/timit/test-phones.jsonl"))
    parser.add_argument("--sample", action="store_true", help="TIMIT's open sample in its place")
    parser.add_argument("--overfit", action="store_true", help="overfit the sample and stop")
    options, overrides = parser.parse_known_args()
    if unknown := [o for o in overrides if o.startswith("-")]:
        parser.error(f"no such option: {' '.join(unknown)}")
    runs, test, what = options.runs, options.test, "TIMIT's core test set"
    if options.overfit:
        row = options.rows[0] if len(options.rows) == 1 else "ctc_1l_250h"
        overfit(runs / "sample", row, overrides)
        return
    if options.sample:
        runs, what = runs / "sample", "two speakers of TIMIT's open sample"
        manifests = split_sample(runs)
        test = manifests["test"]
        overrides = [
            f"data.train=[{manifests['train']}]",
            f"data.dev=[{manifests['dev']}]",
            *overrides,
        ]
    waiting = [
        (row, runs / f"{row}-{seed}", [f"trainer.seed={seed}", *overrides])
        for seed in options.seeds
        for row in options.rows
        if not (runs / f"{row}-{seed}" / "best.safetensors").exists()
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for needs_others in (False, True):
            chosen = [run for run in waiting if (run[0] == "pretrans_3l_250h") == needs_others]
            if not all(pool.map(lambda run: train(*run), chosen)):
                raise SystemExit("some rows are not trained; the same command goes on")
    text = table(options.rows, runs, options.seeds, test, what)
    with replacing(runs / "table.md") as path:
        path.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

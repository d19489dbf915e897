"""Every encoder at equal parameter count and equal training budget, on the same small task.

    export ASR_SHARED=…                                  # the shared recordings
    python benchmarks/comparison.py --estimate           # how long the next line would take
    python benchmarks/comparison.py                      # writes docs/comparison.md and .png

The task: digits, spoken prompts and a slice of read speech, characters, greedy decoding; an eighth
of each source is kept for choosing the best epoch, and another for the test. Each encoder's width
is solved for the same number of parameters; all see the same batches for the same number of epochs,
with three seeds, each in a process of its own on one thread. A run that was finished before is not
run again, one that was cut off goes on: everything is under --runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from asr.acoustics import OnnxEngine
from asr.analysis.diagnostics import load_network
from asr.analysis.metrics import ErrorCounts, compare, total
from asr.analysis.plots import BLUE, RED, WIDTH, save
from asr.config import build, to_dict
from asr.data.manifest import read_audio, read_manifest, write_manifest
from asr.decode import Decoder, GreedySearch
from asr.features import FeatureConfig, Features
from asr.files import replacing
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.cells import CELLS
from asr.models.encoder import EncoderConfig
from asr.models.encoders import (
    AnyEncoderConfig,
    ConformerConfig,
    ReversibleConfig,
    TransformerConfig,
)
from asr.packaging.export import to_onnx
from asr.text.normalize import normalize
from asr.train.config import TrainingConfig
from asr.train.setup import make_trainer

CLASSES = 29  # blank, space, letters, apostrophe
SOURCES = {
    "digits": ("digits-fsdd", 800),
    "prompts": ("asterisk-en", 395),
    "read": ("ljspeech", 120),
}
SEEDS = (1, 2, 3)
STACKED = {"stack": 2, "stride": 2}  # 20 ms a row
FLAT = {"stack": 1, "stride": 1}  # for convolutions, which halve the rate themselves


def _recurrent(**settings) -> Callable[[int], AnyEncoderConfig]:
    return lambda width: EncoderConfig(width, 2, dropout=0.1, **settings)


# name -> (settings for a width, the width's step, features)
ENCODERS: dict[str, tuple[Callable[[int], AnyEncoderConfig], int, dict]] = {
    **{f"bidirectional {c}": (_recurrent(cell=c), 2, STACKED) for c in CELLS},
    "unidirectional lstm": (_recurrent(bidirectional=False), 2, STACKED),
    "residual lstm, projected": (
        lambda width: EncoderConfig(width, 3, dropout=0.1, projection=96, residual=True),
        2,
        STACKED,
    ),
    "lstm with attention": (_recurrent(attention_heads=4), 2, STACKED),
    "convolutions and lstm": (_recurrent(convolutions=(8, 8)), 2, FLAT),
    "reversible gru": (
        lambda width: ReversibleConfig(blocks=2, size=width, hidden_size=width),
        2,
        STACKED,
    ),
    "transformer": (
        lambda width: TransformerConfig(size=88, layers=4, heads=4, feed_forward=width),
        2,
        STACKED,
    ),
    "conformer": (
        lambda width: ConformerConfig(size=72, layers=3, heads=4, feed_forward=width),
        2,
        STACKED,
    ),
}


def features_of(name: str) -> FeatureConfig:
    return build(FeatureConfig, {"n_mels": 40, **ENCODERS[name][2]})


def make_model(name: str, width: int, *, device: str = "meta") -> AcousticModel:
    config = ENCODERS[name][0](width)
    with torch.device(device):
        heads = {"characters": HeadConfig(CLASSES, config.layers)}
        return AcousticModel(features_of(name).size, config, heads)


def solve_width(name: str, parameters: int) -> int:
    """The width whose number of parameters is nearest to the target."""

    def count(width: int) -> int:
        return sum(p.numel() for p in make_model(name, width).parameters())

    step = ENCODERS[name][1]
    low, high = 1, 2
    while count(high * step) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle * step) < parameters else (low, middle)
    return step * min((low, high), key=lambda n: abs(count(n * step) - parameters))


def multiply_adds(name: str, width: int, seconds: float = 10.0) -> float:
    """Of the network, for one second of audio within an utterance of so many."""
    model = make_model(name, width, device="cpu").eval()
    rows = features_of(name).n_rows(seconds)
    with (
        torch.backends.mkldnn.flags(enabled=False),  # whose fused layers are not counted
        FlopCounterMode(display=False) as counter,
        torch.no_grad(),
    ):
        model(torch.zeros(1, rows, model.input_size), torch.tensor([rows]))
    return counter.get_total_flops() / 2 / seconds


def training_speed(name: str, width: int, repeats: int = 5) -> float:
    """Seconds of audio that go forward and backward in one second of processor time.

    Without features, loss and update, which are the same for all; the best of several.
    """
    model = make_model(name, width, device="cpu")
    utterances, seconds = 8, 2.5
    rows = features_of(name).n_rows(seconds)
    features = torch.randn(utterances, rows, model.input_size)
    lengths = torch.full((utterances,), rows)
    times = []
    for _ in range(repeats):
        began = time.process_time()
        model(features, lengths)[0].sum().backward()
        times.append(time.process_time() - began)
    return utterances * seconds / min(times)


def prepare(runs: Path) -> None:
    """Write the manifests: every eighth utterance is for dev, the one after it for the test."""
    shared = Path(os.environ.get("ASR_SHARED", "../shared")) / "speech"
    parts: dict[str, list] = {"train": [], "dev": []}
    for source, (folder, n) in SOURCES.items():
        utterances = [
            u for u in read_manifest(shared / folder / "train.jsonl") if normalize(u.text)
        ][:n]
        for split, rest in (("dev", [0]), ("train", [2, 3, 4, 5, 6, 7])):
            parts[split] += [u for i, u in enumerate(utterances) if i % 8 in rest]
        write_manifest(runs / f"{source}.jsonl", utterances[1::8])
    for split, utterances in parts.items():
        write_manifest(runs / f"{split}.jsonl", utterances)


def settings(name: str, seed: int, options: argparse.Namespace) -> TrainingConfig:
    runs = options.runs
    width = solve_width(name, options.parameters)
    return build(
        TrainingConfig,
        {
            "run": str(runs / f"{name.replace(' ', '-').replace(',', '')}-{seed}"),
            "data": {
                "train": [str(runs / "train.jsonl")],
                "dev": [str(runs / "dev.jsonl")],
                "batch_frames": 2000 // ENCODERS[name][2]["stride"],  # 20 s
            },
            "features": to_dict(features_of(name)),
            "model": to_dict(ENCODERS[name][0](width)),
            "augment": {"speeds": [0.9, 1.0, 1.1], "time_masks": 0, "frequency_masks": 0},
            "optimizer": {"learning_rate": 2e-3, "warmup_steps": 200, "decay": 0.5, "clip": 1.0},
            "trainer": {
                "epochs": options.epochs,
                "patience": options.epochs,
                "seed": seed,
                "ema": 0.99,
                "average": 1,
                "device": "cpu",
            },
        },
    )


def run_one(name: str, seed: int, options: argparse.Namespace) -> None:
    """Train and test one encoder with one seed, and write what was measured."""
    torch.set_num_threads(1)
    config = settings(name, seed, options)
    trainer = make_trainer(config)
    state = trainer.fit()
    if state.epoch < options.epochs:
        raise SystemExit(f"{name}: stopped; the same command goes on")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    folder = Path(config.run)
    network = load_network(folder)
    with replacing(folder / "model.onnx") as path:
        path.write_bytes(to_onnx(network.model).SerializeToString())
    engine = OnnxEngine(folder / "model.onnx", threads=1)
    extract, shift = Features(network.features), network.features.frame_shift * network.rate
    decoder = Decoder(GreedySearch(network.vocabulary), shift)
    errors, seconds, spent = {}, 0.0, 0.0
    for source in SOURCES:
        counts: list[ErrorCounts] = []
        for utterance in read_manifest(options.runs / f"{source}.jsonl"):
            waveform = read_audio(utterance, network.features.sample_rate)
            began = time.process_time()
            (log_probs,) = engine.log_probs([extract(waveform)])
            text = decoder.decode(log_probs)[0].text
            spent += time.process_time() - began
            seconds += utterance.duration
            counts.append(compare(normalize(utterance.text), text).characters)
        errors[source] = total(counts).rate
    width = solve_width(name, options.parameters)
    result = {
        "width": width,
        "parameters": sum(p.numel() for p in network.model.parameters()),
        "multiply_adds": multiply_adds(name, width),
        "errors": errors,
        "training_speed": training_speed(name, width),
        "real_time_factor": spent / seconds,
        "peak_mb": peak,
    }
    with replacing(result_file(name, seed, options)) as path:
        path.write_text(json.dumps(result, indent=1), encoding="utf-8")


def train_set(options: argparse.Namespace) -> list:
    return read_manifest(options.runs / "train.jsonl")


def result_file(name: str, seed: int, options: argparse.Namespace) -> Path:
    return Path(settings(name, seed, options).run) / "result.json"


def run_all(names: Sequence[str], options: argparse.Namespace) -> None:
    """Everything that is not finished yet, `--jobs` processes at a time."""
    waiting = [
        (name, seed)
        for seed in options.seeds
        for name in names
        if not result_file(name, seed, options).exists()
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(cell: tuple[str, int]) -> bool:
        name, seed = cell
        began = time.monotonic()
        folder = result_file(name, seed, options).parent
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, __file__, "--one", name, "--seeds", str(seed)]
        command += ["--parameters", str(options.parameters), "--epochs", str(options.epochs)]
        with (folder / "output.txt").open("a") as output:
            status = subprocess.run(
                [*command, "--runs", str(options.runs)],
                stdout=output,
                stderr=output,
                env=environment,
                check=False,
            ).returncode
        state = "done" if status == 0 else f"FAILED, see {folder / 'output.txt'}"
        print(
            f"{name}, seed {seed}: {state}, {(time.monotonic() - began) / 60:.1f} min", flush=True
        )
        return status == 0

    with ThreadPoolExecutor(options.jobs) as pool:
        if not all(pool.map(run, waiting)):
            raise SystemExit("some runs failed; the same command tries them again")


def estimate(names: Sequence[str], options: argparse.Namespace) -> None:
    """Time a few steps of each encoder at the size and batch of the comparison."""
    torch.set_num_threads(1)
    seconds = sum(u.duration for u in train_set(options)) * options.epochs
    whole = 0.0
    for name in names:
        width = solve_width(name, options.parameters)
        speed = training_speed(name, width, repeats=3)
        minutes = seconds / speed * 1.3 / 60  # features, loss and updates besides
        whole += minutes * len(options.seeds)
        parameters = sum(p.numel() for p in make_model(name, width).parameters())
        print(f"{name:26} width {width:4} {parameters:9,} parameters {minutes:6.1f} min a run")
    minutes, n_seeds = whole / options.jobs, len(options.seeds)
    print(f"about {minutes:.0f} minutes for {n_seeds} seeds, {options.jobs} at a time")


def report(names: Sequence[str], options: argparse.Namespace) -> None:
    """docs/comparison.md and its picture, of the runs that there are."""
    results = {
        name: [json.loads(result_file(name, s, options).read_text()) for s in options.seeds]
        for name in names
        if all(result_file(name, s, options).exists() for s in options.seeds)
    }
    ranked = sorted(results, key=lambda name: mean(results[name], "read"))
    counts = {s: len(read_manifest(options.runs / f"{s}.jsonl")) for s in SOURCES}
    train = train_set(options)
    hours = sum(u.duration for u in train) / 3600
    lines = [
        "# Encoders compared",
        "",
        f"Each encoder has about {options.parameters:,} parameters and is trained on the same "
        f"{len(train)} "
        f"recordings ({hours:.2f} h: digits, spoken prompts, read speech) for {options.epochs} "
        "epochs, with the same optimiser and learning rate; nothing is tuned for any of them. "
        "Errors are character errors with greedy decoding, on recordings held out from each "
        f"source ({', '.join(f'{s} {n}' for s, n in counts.items())}): the mean of "
        f"{len(options.seeds)} seeds, with the lowest and the highest. The speakers are those of "
        "training, and the task is small: this compares encoders, not recognisers.",
        "",
        "Multiply-adds are those of the network for one second of a ten-second utterance. "
        "Speeds are in CPU time of one thread: training covers forward and backward passes in "
        "batches of 20 s; inference covers features, ONNX Runtime in float32 and decoding. "
        "Memory is the peak of the training process, Python and libraries included.",
        "",
        "```bash",
        "python benchmarks/comparison.py"
        + ("" if options.parameters == PARAMETERS else f" --parameters {options.parameters}")
        + ("" if options.epochs == EPOCHS else f" --epochs {options.epochs}"),
        "```",
        "",
        "| encoder | width | parameters | read, CER % | prompts, CER % | digits, CER % | "
        "million multiply-adds/s of audio | training, times real time | real-time factor | MB |",
        "| --- " * 10 + "|",
    ]
    for name in ranked:
        runs = results[name]
        figures = [f"{spread(runs, source)}" for source in ("read", "prompts", "digits")]
        first = runs[0]
        lines.append(
            f"| {name} | {first['width']} | {first['parameters']:,} | {' | '.join(figures)} | "
            f"{first['multiply_adds'] / 1e6:.1f} | "
            f"{statistics.median(r['training_speed'] for r in runs):,.0f} | "
            f"{statistics.median(r['real_time_factor'] for r in runs):.4f} | "
            f"{max(r['peak_mb'] for r in runs):.0f} |"
        )
    lines += [
        "",
        "![Mean, lowest and highest error of every encoder on each source](comparison.png)",
        "",
        "`python benchmarks/comparison.py --output docs/comparison.md` writes this page and draws"
        " the picture.",
        "",
        "## Conclusions",
        "",
    ]
    lines += [f"- {sentence}" for sentence in conclusions(results, ranked)]
    with replacing(options.output) as path:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    save(picture(results, ranked), options.output.with_suffix(".png"))
    print(options.output)


def conclusions(results: dict[str, list[dict]], ranked: Sequence[str]) -> list[str]:
    """Only what the spread over the seeds allows to say."""
    if len(ranked) < 2:
        return []
    best, worst = ranked[0], ranked[-1]
    close = [
        n
        for n in ranked[1:]
        if min(errors(results[n], "read")) <= max(errors(results[best], "read"))
    ]
    sentences = [
        f"Read speech: {best} makes the fewest errors ({spread(results[best], 'read')} %), "
        f"{worst} the most ({spread(results[worst], 'read')} %); "
        f"within the spread of the best: {', '.join(close) or 'no other'}."
    ]
    pairs = [
        ("bidirectional lstm", "unidirectional lstm"),
        ("bidirectional lstm", "bidirectional rnn_tanh"),
        ("bidirectional lstm", "bidirectional peephole_lstm"),
        ("bidirectional lstm", "bidirectional gru"),
        ("lstm with attention", "bidirectional lstm"),
        ("convolutions and lstm", "bidirectional lstm"),
        ("conformer", "transformer"),
        ("conformer", "bidirectional lstm"),
    ]
    for a, b in pairs:
        if a in results and b in results:
            sentences.append(f"{a} against {b}: {verdict(results[a], results[b])}.")
    fastest = max(results, key=lambda n: results[n][0]["training_speed"])
    lightest = min(results, key=lambda n: results[n][0]["real_time_factor"])
    return [*sentences, f"Fastest in training: {fastest}; in inference: {lightest}."]


def verdict(a: list[dict], b: list[dict]) -> str:
    parts = []
    for source in SOURCES:
        x, y = errors(a, source), errors(b, source)
        clear = "fewer" if max(x) < min(y) else "more" if min(x) > max(y) else ""
        parts.append(
            f"{source} {mean(a, source):.1f} and {mean(b, source):.1f} %"
            + (f", {clear} errors with every seed" if clear else ", no clear difference")
        )
    return "; ".join(parts)


def errors(runs: Iterable[dict], source: str) -> list[float]:
    return [100 * run["errors"][source] for run in runs]


def mean(runs: Iterable[dict], source: str) -> float:
    return statistics.mean(errors(runs, source))


def spread(runs: Sequence[dict], source: str) -> str:
    values = errors(runs, source)
    return f"{statistics.mean(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def picture(results: dict[str, list[dict]], ranked: Sequence[str]) -> Figure:
    """For each source, the mean of an encoder's seeds on a line from the lowest to the highest."""
    figure = Figure(figsize=(WIDTH, 0.28 * len(ranked) + 1.8), layout="constrained")
    panels = figure.subplots(1, len(SOURCES), sharey=True)
    rows = np.arange(len(ranked))
    for axes, source in zip(panels, SOURCES, strict=True):
        values = [errors(results[name], source) for name in ranked]
        lowest, highest = [min(v) for v in values], [max(v) for v in values]
        axes.hlines(rows, lowest, highest, color=BLUE, lw=3, label="lowest to highest of the seeds")
        means = [mean(results[name], source) for name in ranked]
        axes.plot(means, rows, "|", color=RED, markersize=11, label="mean")
        axes.set(title=source, xlabel="CER (%)", yticks=rows, yticklabels=ranked)
        axes.set_xlim(left=0)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("encoder")
    panels[0].invert_yaxis()
    figure.suptitle("Character errors of encoders of equal size")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


PARAMETERS, EPOCHS = 300_000, 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, default=PARAMETERS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", choices=list(ENCODERS), help="these encoders alone")
    parser.add_argument("--runs", type=Path, default=Path("runs/comparison"))
    parser.add_argument("--output", type=Path, default=Path("docs/comparison.md"))
    parser.add_argument("--estimate", action="store_true", help="say how long it takes, and stop")
    parser.add_argument("--one", choices=list(ENCODERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one, options.seeds[0], options)
        return
    prepare(options.runs)
    names = options.only or list(ENCODERS)
    if options.estimate:
        estimate(names, options)
        return
    run_all(names, options)
    report(names, options)


if __name__ == "__main__":
    main()

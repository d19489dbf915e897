"""Memory that one training step needs beyond weights and features, against depth and length.

    python benchmarks/memory.py [--quick] [--output docs/memory.png]

Depth: stacked GRU layers beside the same layers coupled reversibly, whose activations are computed
again in the backward pass. Length: a causal LSTM with full and with truncated back-propagation.
Transcripts are of 20 symbols throughout: CTC's own lattice takes frames x symbols in either case.
Prints a table and draws it. Every figure is the peak of the resident memory of a process of its own
over what it held before the step (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure

from asr.data.dataset import Batch
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.encoder import EncoderConfig
from asr.models.encoders import AnyEncoderConfig, ReversibleConfig
from asr.plots import save
from asr.train.config import LossConfig
from asr.train.losses import training_loss
from asr.train.truncated import truncated_backward

INPUTS, CLASSES, BATCH, WINDOW = 80, 30, 4, 250


def plain(layers: int) -> EncoderConfig:
    return EncoderConfig(128, layers, cell="gru", projection=128, residual=True)


def reversible(layers: int) -> ReversibleConfig:
    return ReversibleConfig(blocks=layers // 2, size=128, hidden_size=128, dropout=0.0)


def causal(layers: int) -> EncoderConfig:
    return EncoderConfig(256, layers, bidirectional=False)


CURVES: dict[str, tuple[str, Callable[[int], AnyEncoderConfig], bool]] = {
    "stacked": ("depth", plain, False),
    "reversible": ("depth", reversible, False),
    "full": ("length", causal, False),
    "truncated": ("length", causal, True),
}


def memory(name: str) -> float:
    """VmRSS or VmHWM of this process, in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    assert found
    return int(found[1]) / 1024


def step(config: AnyEncoderConfig, n_frames: int, truncated: bool) -> float:
    """MB at the peak of one step over what was there before it."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AcousticModel(INPUTS, config, {"only": HeadConfig(CLASSES, config.layers)})
    run(
        model, make_batch(50), truncated
    )  # what is loaded with the first step is not what is measured
    batch = make_batch(n_frames)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the last peak
    before = memory("VmRSS")
    run(model, batch, truncated)
    return memory("VmHWM") - before


def make_batch(n_frames: int) -> Batch:
    return Batch(
        torch.randn(BATCH, n_frames, INPUTS),
        torch.full((BATCH,), n_frames),
        {"only": torch.randint(1, CLASSES, (BATCH, 20))},
        {"only": torch.full((BATCH,), 20)},
        [""] * BATCH,
    )


def run(model: AcousticModel, batch: Batch, truncated: bool) -> None:
    """Forward and backward."""
    if truncated:
        truncated_backward(model, batch, {"only": 1.0}, LossConfig(), WINDOW)
    else:
        loss, _ = training_loss(model, batch, {"only": 1.0}, LossConfig())
        loss.backward()


def measured(*arguments: object) -> float:
    """`step` in a process of its own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(step, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the script")
    parser.add_argument("--output", type=Path, default=Path("memory.png"))
    options = parser.parse_args()
    depths = (2, 4) if options.quick else (2, 4, 8, 16, 32)
    lengths = (250, 500) if options.quick else (250, 500, 1000, 2000, 4000, 8000)
    n_frames = 100 if options.quick else 1000
    figure = Figure(figsize=(10, 4), layout="constrained")
    panels = dict(zip(("depth", "length"), figure.subplots(1, 2), strict=True))
    for name, (against, make, truncated) in CURVES.items():
        values = []
        for x in depths if against == "depth" else lengths:
            config = make(x) if against == "depth" else make(3)
            used = measured(config, n_frames if against == "depth" else x, truncated)
            values.append((x, used))
            unit = "layers" if against == "depth" else "frames"
            print(f"{name:12} {x:6} {unit} {used:9.1f} MB", flush=True)
        panels[against].plot(*zip(*values, strict=True), "o-", label=name)
    panels["depth"].set(xlabel=f"layers of 128 GRU cells, {n_frames} frames", ylabel="MB")
    panels["length"].set(xlabel="frames; 3 layers of 256 LSTM cells", ylabel="MB")
    for axes in panels.values():
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
    figure.suptitle(f"memory of one training step, {BATCH} utterances")
    save(figure, options.output)
    print(options.output)


if __name__ == "__main__":
    main()

"""Memory that one training step needs beyond weights and features, against depth and length.

    python benchmarks/memory.py [--quick] [--output docs/memory.png]

Causal GRU layers: stacked; coupled reversibly, so that their activations are computed again in the
backward pass; and both of them with truncated back-propagation, which keeps one window at a time.
Transcripts are of 20 symbols throughout: CTC's own lattice takes frames x symbols in either case.
Prints a table and draws it. Every figure is the peak of the resident memory of a process of its own
over what it held before the step (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from asr.analysis.plots import WIDTH, save
from asr.data.dataset import Batch
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.encoder import EncoderConfig
from asr.models.encoders import AnyEncoderConfig, ReversibleConfig
from asr.train.config import LossConfig
from asr.train.losses import training_loss
from asr.train.truncated import truncated_backward

INPUTS, CLASSES, BATCH, WINDOW = 80, 30, 4, 250
FRAMES, LAYERS = 1000, 4  # of what does not vary


def stacked(layers: int) -> EncoderConfig:
    return EncoderConfig(
        128, layers, cell="gru", bidirectional=False, projection=128, residual=True
    )


def reversible(layers: int) -> ReversibleConfig:
    return ReversibleConfig(
        blocks=layers // 2, size=128, hidden_size=128, bidirectional=False, dropout=0.0
    )


CURVES: dict[str, tuple[Callable[[int], AnyEncoderConfig], bool]] = {
    "stacked": (stacked, False),
    "reversible": (reversible, False),
    "stacked, truncated": (stacked, True),
    "reversible, truncated": (reversible, True),
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
    axes_of: dict[str, Sequence[int]] = {
        "layers": (2, 4) if options.quick else (2, 4, 8, 16, 32),
        "frames": (100, 200) if options.quick else (250, 500, 1000, 2000, 4000, 8000),
    }
    used: dict[str, dict[str, list[float]]] = {}
    for against, values in axes_of.items():
        print(f"| {against} | {' | '.join(map(str, values))} |")
        print("| --- " * (len(values) + 1) + "|")
        used[against] = {}
        for name, (make, truncated) in CURVES.items():
            steps = [
                (make(x), FRAMES) if against == "layers" else (make(LAYERS), x) for x in values
            ]
            used[against][name] = [
                measured(config, n_frames, truncated) for config, n_frames in steps
            ]
            print(
                f"| {name} | {' | '.join(f'{mb:.0f}' for mb in used[against][name])} |", flush=True
            )
    save(picture(axes_of, used), options.output)
    print(options.output)


def picture(
    axes_of: Mapping[str, Sequence[int]], used: Mapping[str, Mapping[str, Sequence[float]]]
) -> Figure:
    """MB over layers and over frames: `used[layers or frames][name of the curve]`."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    fixed = {"layers": f"{FRAMES} frames", "frames": f"{LAYERS} layers"}
    panels = figure.subplots(1, 2)
    for axes, (against, values) in zip(panels, axes_of.items(), strict=True):
        for name, megabytes in used[against].items():
            axes.plot(values, megabytes, "o-", markersize=4, label=name)
        axes.set(title=fixed[against], xlabel=against, ylabel="memory (MB)", ylim=(0, None))
        axes.grid(alpha=0.25)
    figure.suptitle(
        f"Memory of one training step: {BATCH} utterances, GRU, windows of {WINDOW} frames"
    )
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


if __name__ == "__main__":
    main()

"""Training speed of every recurrent cell beside torch's LSTM, on one CPU thread.

    python benchmarks/cells.py [--frames 300] [--batch 16] [--inputs 500] [--hidden 250]

Prints the CPU time of one forward and backward pass of a unidirectional layer: the best of several.
"""

from __future__ import annotations

import argparse
import time

import torch

from asr.models.cells import CELLS


def seconds(cell: torch.nn.Module, inputs: torch.Tensor, repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        started = time.process_time()
        cell(inputs)[0].sum().backward()
        times.append(time.process_time() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("frames", 300), ("batch", 16), ("inputs", 500), ("hidden", 250)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    inputs = torch.randn(options.frames, options.batch, options.inputs, requires_grad=True)
    reference = seconds(CELLS["lstm"](options.inputs, options.hidden), inputs)
    for name, make in CELLS.items():
        cell = make(options.inputs, options.hidden)
        parameters = sum(p.numel() for p in cell.parameters())
        taken = seconds(cell, inputs)
        print(
            f"{name:14} {parameters:9,} parameters {1e3 * taken:8.1f} ms "
            f"{taken / reference:6.2f} x lstm"
        )


if __name__ == "__main__":
    main()

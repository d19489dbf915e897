"""Speed of a bundle's network on one core beside the arithmetic limit of the core, in one run.

    python benchmarks/inference.py [models/mine] [--seconds 10] [--batch 1 --batch 8] [--runs 7]

The network hears a sample over and over, as utterances of one length, one at a time or several at
once, by ONNX Runtime with its weights in 8, 16 and 32 bits (as `asr export` makes them of the
weights in the bundle) and by torch. Features and decoding are left out. Everything is measured in
turn, as many times as --runs says, and the median counts; give it a core that does nothing else.
Prints two Markdown tables.

The limit: GFLOP/s of matrix products of the shape of the network's largest matrix, with as many
rows as one step through a recurrent layer has (the batch), as an utterance has, and in between.
The more rows, the better a core is used; a recurrent layer is half of it steps.

The network:
us a row   processor time for a row of features
times      faster than real time
GFLOP/s    two floating-point operations for each multiplication of the network's matrices
share      of the fastest product above of the same arithmetic; 16 bits are unpacked to 32
differs    most that a probability differs from torch's

Batches are shown and not used: `asr.acoustics.OnnxEngine` says why.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from asr import audio
from asr.acoustics import open_session
from asr.features import FeatureConfig, Features
from asr.packaging.bundle import Bundle, bundled
from asr.packaging.export import Precision
from asr.packaging.package import load_bundle, package_bundle

Work = Callable[[], object]
Key = tuple[str, int]  # what computes, and for how many rows or utterances at once
SAMPLE = Path(__file__).parents[1] / "samples" / "she-couldnt-decide.flac"
LEAST = 0.05  # s of each measurement
TORCH = "torch, fp32"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default=bundled(), help="a bundle with weights")
    parser.add_argument("--seconds", type=float, default=10.0, help="an utterance [default: 10]")
    parser.add_argument("--batch", type=int, action="append", help="[default: 1 and 8]")
    parser.add_argument("--runs", type=int, default=7, help="[default: 7]")
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    batches = options.batch or [1, 8]
    bundle = Bundle.load(options.model)
    features = listen(bundle.config.features, options.seconds, max(batches))
    n_rows = features.shape[1]
    matrix, flops, networks = load(bundle, {n: features[:n] for n in batches})
    products = make_products(matrix, sorted({*batches, 64, n_rows}))
    seconds, of_products = medians(options.runs, networks, products)

    rates = {key: 2 * matrix.numel() * key[1] / of_products[key] / 1e9 for key in products}
    names = list(dict.fromkeys(name for name, _ in products))
    print(f"{options.model}: products with a matrix of {matrix.shape[1]} x {matrix.shape[0]}\n")
    print_table(
        ["rows", *names],
        (
            [str(rows), *(f"{rates[name, rows]:.1f}" for name in names)]
            for rows in dict.fromkeys(rows for _, rows in products)
        ),
    )
    print()
    shift = bundle.config.features.frame_shift
    print_table(
        ["network", "batch", "us a row", "times", "GFLOP/s", "share %", "differs"],
        (
            [*row(key, taken / key[1] / n_rows, shift, flops, rates), difference(networks, key)]
            for key, taken in seconds.items()
        ),
    )


def listen(config: FeatureConfig, seconds: float, batch: int) -> Tensor:
    """Features (batch, rows, size) of a sample that is repeated, each time from another place."""
    sample = audio.read(SAMPLE)
    waveform = np.resize(sample, round(seconds * audio.SAMPLE_RATE))
    features = Features(config)
    turned = (np.roll(waveform, len(sample) * i // batch) for i in range(batch))
    return torch.from_numpy(np.stack([features(waveform) for waveform in turned]))


def load(bundle: Bundle, features: Mapping[int, Tensor]) -> tuple[Tensor, float, dict[Key, Work]]:
    """The network's largest matrix, floating-point operations for a row of features, and what runs
    it in every way and batch.
    """
    model = load_bundle(bundle)
    if getattr(model.encoder.config, "chunk", None) is not None:
        raise SystemExit(f"{bundle.folder} hears chunks: benchmarks/streaming.py measures those")
    n_rows = next(iter(features.values())).shape[1]
    lengths = {batch: torch.full((batch,), n_rows) for batch in features}
    works: dict[Key, Work] = {}
    for precision in get_args(Precision):
        with tempfile.TemporaryDirectory() as folder:
            made = package_bundle(bundle, Path(folder, "a"), name="a", precision=precision)
            session = make_session(made.model_path.read_bytes())
        for batch in features:
            given = {"features": features[batch].numpy(), "lengths": lengths[batch].numpy()}
            works[f"ONNX Runtime, {precision}", batch] = lambda s=session, g=given: s.run(None, g)
    second = made.config.model["second"]
    heads = [model.primary, *([second] if second else [])]

    def by_torch(batch: int) -> list[np.ndarray]:
        with torch.inference_mode():
            outputs = model.forward_heads(features[batch], lengths[batch], heads)
        return [outputs[name][0].numpy() for name in heads]

    for batch in features:
        works[TORCH, batch] = lambda batch=batch: by_torch(batch)
    # The operators of oneDNN are not counted.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        by_torch(min(features))
    flops = counter.get_total_flops() / min(features) / n_rows
    matrix = max((p for p in model.parameters() if p.dim() == 2), key=Tensor.numel)
    return matrix.detach(), flops, works


def make_products(matrix: Tensor, heights: Iterable[int]) -> dict[Key, Work]:
    """(rows, in) @ (in, out) for a matrix (out, in), in float32 and in 8 bits."""
    right = matrix.T.contiguous()
    eighth = np.random.default_rng(0).integers(-127, 128, right.shape, np.int8)
    whole = make_session(one_node("MatMul", right.numpy()))
    small = make_session(one_node("MatMulInteger", eighth))
    works: dict[Key, Work] = {}
    for rows in heights:
        left = torch.randn(rows, right.shape[0])
        bytes_ = {"left": left.mul(30).add(128).clamp(0, 255).numpy().astype(np.uint8)}
        floats = {"left": left.numpy()}
        works[TORCH, rows] = lambda left=left: left @ right
        works["ONNX Runtime, fp32", rows] = lambda given=floats: whole.run(None, given)
        works["ONNX Runtime, int8", rows] = lambda given=bytes_: small.run(None, given)
    return works


def one_node(operator: str, right: np.ndarray) -> bytes:
    """A graph that multiplies its input by a constant."""
    is_float = right.dtype == np.float32
    taken, given = (
        (TensorProto.FLOAT, TensorProto.FLOAT)
        if is_float
        else (TensorProto.UINT8, TensorProto.INT32)
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["product"])],
        "product",
        [value("left", taken, ["rows", right.shape[0]])],
        [value("product", given, ["rows", right.shape[1]])],
        [numpy_helper.from_array(right, "right")],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def make_session(graph: bytes) -> onnxruntime.InferenceSession:
    """As the package opens its networks."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(graph)
        file.flush()
        return open_session(file.name, unpack_weights=False)


def medians(runs: int, *groups: Mapping[Key, Work]) -> list[dict[Key, float]]:
    """Seconds for each work of each group; all are measured once, then all again, so that what else
    the machine does meets all.
    """
    times: list[dict[Key, list[float]]] = [{key: [] for key in works} for works in groups]
    for run in range(1 + runs):
        for works, found in zip(groups, times, strict=True):
            for key, work in works.items():
                taken = measure(work)
                if run:  # the first is for warming up
                    found[key].append(taken)
    return [{key: statistics.median(t) for key, t in found.items()} for found in times]


def measure(work: Work) -> float:
    """Seconds of the processor."""
    count, began = 0, time.process_time()
    while not count or time.process_time() - began < LEAST:
        work()
        count += 1
    return (time.process_time() - began) / count


def row(
    key: Key, seconds: float, shift: float, flops: float, rates: Mapping[Key, float]
) -> list[str]:
    """Of the table of networks; `seconds` and `flops` are those of a row of features."""
    name, batch = key
    is_int8 = name.endswith("int8")
    limit = max(rate for (product, _), rate in rates.items() if product.endswith("int8") == is_int8)
    rate = flops / seconds / 1e9
    return [
        name,
        str(batch),
        f"{1e6 * seconds:.1f}",
        f"{shift / seconds:,.0f}",
        f"{rate:.1f}",
        f"{100 * rate / limit:.0f}",
    ]


def difference(networks: Mapping[Key, Work], key: Key) -> str:
    """The most that a probability differs from torch's."""
    expected = networks[TORCH, key[1]]()
    given = networks[key]()
    pairs = zip(given, expected, strict=False)  # ONNX gives the lengths as well
    return f"{max(np.abs(np.exp(a) - np.exp(b)).max() for a, b in pairs):.0e}"


def print_table(head: list[str], rows: Iterable[list[str]]) -> None:
    print("| " + " | ".join(head) + " |\n| --- |" + " --- |" * (len(head) - 1))
    for cells in rows:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

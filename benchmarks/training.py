"""Speed of training beside the arithmetic limit of the machine, both measured in the same run.

    python benchmarks/training.py [--seconds 20] [--threads N] [model=blstm_4x256 …]

A step is what `asr train` does with a batch: forward, loss (CTC-CRF for the heads that are trained
by it), backward, clipping, update; the batch is `data.batch_frames` feature rows of noise. A row
costs six floating-point operations for each weight of a matrix (two forward, four backward); the
limit is how many such rows the machine's own matrix product could pay for, at the size of the input
projections. Weights behind a subsampling are counted as if every row reached them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from asr.cli.train import compose
from asr.data.dataset import Batch
from asr.train.device import choose_device
from asr.train.losses import UnitTrigram, training_loss
from asr.train.optimization import make_optimizer
from asr.train.setup import make_model

CLASSES, UTTERANCE_SECONDS = 29, 10.0


def rate(work: Callable[[], object], seconds: float, device: torch.device) -> float:
    """How often a second `work` can be done, warm: the best of five stretches."""
    best = 0.0
    work()
    for _ in range(5):
        count, started = 0, time.perf_counter()
        while not count or time.perf_counter() - started < seconds / 5:
            work()
            count += 1
            if device.type == "cuda":
                torch.cuda.synchronize()
        best = max(best, count / (time.perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each of the measurements")
    parser.add_argument("--threads", type=int)
    parser.add_argument("overrides", nargs="*", help="as of asr train")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = compose(options.overrides)
    device = choose_device(config.trainer)
    torch.manual_seed(0)
    model = make_model(config, dict.fromkeys(config.heads, CLASSES)).to(device).train()
    optimizer = make_optimizer(model.parameters(), config.optimizer)
    weights = {name: head.weight for name, head in config.heads.items()}
    row_seconds = config.features.frame_shift
    rows = min(config.data.batch_frames, round(UTTERANCE_SECONDS / row_seconds))
    utterances = max(1, config.data.batch_frames // rows)
    targets = torch.randint(1, CLASSES, (utterances, rows // 8))
    batch = Batch(
        torch.randn(utterances, rows, config.features.size),
        torch.full((utterances,), rows),
        dict.fromkeys(config.heads, targets),
        dict.fromkeys(config.heads, torch.full((utterances,), targets.shape[1])),
        [""] * utterances,
    ).to(device)
    trigram = UnitTrigram(targets.tolist(), CLASSES)
    trigrams = {n: trigram for n, head in config.heads.items() if head.criterion == "ctc_crf"}
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
        config.trainer.precision, torch.float32
    )

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss, _ = training_loss(model, batch, weights, config.loss, trigrams)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
        optimizer.step()

    inputs, outputs = 2 * config.model.hidden_size, 8 * config.model.hidden_size
    left = torch.randn(utterances * rows, inputs, device=device, dtype=dtype)
    right = torch.randn(inputs, outputs, device=device, dtype=dtype)
    gemm = rate(lambda: left @ right, options.seconds, device)
    gemm *= 2 * left.shape[0] * inputs * outputs
    achieved = rate(step, options.seconds, device) * utterances * rows
    matrices = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    limit = gemm / (6 * matrices)
    print(
        f"device           {device}, {torch.get_num_threads()} threads, {config.trainer.precision}"
    )
    print(f"batch            {utterances} x {rows} rows of {row_seconds:g} s")
    print(f"matrix product   {gemm / 1e9:,.1f} GFLOP/s")
    print(f"training         {achieved:,.0f} rows/s, {achieved * row_seconds:,.0f} x real time")
    print(f"limit            {limit:,.0f} rows/s for {matrices:,} weights: {achieved / limit:.0%}")


if __name__ == "__main__":
    main()

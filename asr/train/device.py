"""Where a run computes, and whether its largest batch fits there."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping

import torch

from asr.data.dataset import Batch
from asr.errors import ConfigError, TrainingError
from asr.models.acoustic import AcousticModel
from asr.train.config import SequenceTrainerConfig, TrainerConfig, TrainingConfig
from asr.train.crf import UnitTrigram
from asr.train.losses import training_loss

_ROWS_PER_SYMBOL = 4  # in the made-up targets


def choose_device(config: TrainerConfig | SequenceTrainerConfig) -> torch.device:
    """The device of this process; of several processes on a machine, each has its own GPU.

    Raises ConfigError if there is no such device, or it cannot do what is asked for.
    """
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"trainer.device={name} cannot be used here: {str(error).splitlines()[0]}",
            f"trainer.device=auto, or one of: {', '.join(_devices())}",
        ) from error
    if device.type == "cpu" and config.precision == "fp16":
        raise ConfigError("there is no fp16 on CPUs", "trainer.precision=bf16 or fp32")
    return device


def _devices() -> list[str]:
    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]


def check_memory(
    model: AcousticModel,
    config: TrainingConfig,
    largest: tuple[int, int],
    trigrams: Mapping[str, UnitTrigram],
) -> str:
    """Run the largest batch of an epoch forward and backward, before an hour is lost.

    `largest` is its utterances and feature rows, `trigrams` what the loss takes. Nothing of the
    model changes. Returns a message about the memory that it took. Raises TrainingError if there is
    not enough.
    """
    device = next(model.parameters()).device
    utterances, rows = largest
    rows = round(rows / min(config.augment.speeds))
    views = 2 if config.loss.consistency else 1
    batch = _make_batch(model, utterances * views, rows, views).to(device)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    weights = {name: head.weight for name, head in config.heads.items()}
    dtype = torch.float16 if config.trainer.precision == "fp16" else torch.bfloat16
    what = f"the largest batch, {utterances} x {rows} feature rows"
    model.train()
    try:
        with torch.autocast(device.type, dtype, enabled=config.trainer.precision != "fp32"):
            loss, _ = training_loss(model, batch, weights, config.loss, trigrams)
        loss.backward()
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU's allocator has its own
        if "memory" not in str(error):
            raise
        raise TrainingError(
            f"{what}, does not fit into the memory of {device}: {str(error).splitlines()[0]}",
            "lower data.batch_frames or data.max_duration; optimizer.accumulate=2 makes up for it",
        ) from error
    finally:
        model.zero_grad(set_to_none=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return f"{what}, fits: {_peak(device):.2f} GB at most"


def _make_batch(model: AcousticModel, utterances: int, rows: int, views: int) -> Batch:
    rate = max(model.encoder.config.rate(h.layer) for h in model.head_configs.values())
    n_symbols = max(1, rows // _ROWS_PER_SYMBOL // rate)
    targets = torch.ones(utterances, n_symbols, dtype=torch.long)
    targets[:, ::2] = min(2, min(h.classes for h in model.head_configs.values()) - 1)
    heads = list(model.head_configs)
    return Batch(
        torch.randn(utterances, rows, model.input_size),
        torch.full((utterances,), rows),
        dict.fromkeys(heads, targets),
        dict.fromkeys(heads, torch.full((utterances,), n_symbols)),
        [""] * utterances,
        views=views,
    )


def _peak(device: torch.device) -> float:
    """Gigabytes of the device that were in use at once, up to now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9

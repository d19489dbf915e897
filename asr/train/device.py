"""Where a run computes, and whether its largest batch fits there."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from asr.data.dataset import Batch
from asr.errors import ConfigError, TrainingError
from asr.models.acoustic import AcousticModel
from asr.train.config import SequenceTrainerConfig, TrainerConfig, TrainingConfig
from asr.train.losses import UnitTrigram, training_loss

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


def autocast(config: TrainerConfig | SequenceTrainerConfig, device: torch.device) -> torch.autocast:
    """What `trainer.precision` means on a device: fp32 on a CPU that has no bfloat16."""
    enabled = config.precision != "fp32" and not lacks_bfloat16(config, device)
    dtype = torch.float16 if config.precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=enabled)


def lacks_bfloat16(config: TrainerConfig | SequenceTrainerConfig, device: torch.device) -> bool:
    """Whether bf16 is asked for on a CPU without it."""
    return config.precision == "bf16" and device.type == "cpu" and not _cpu_has_bfloat16()


@lru_cache
def _cpu_has_bfloat16() -> bool:
    """By trial: which instructions it takes depends on torch's libraries."""
    with torch.autocast("cpu", torch.bfloat16):
        try:
            nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
        except RuntimeError:
            return False
    return True


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
    what = f"the largest batch, {utterances} x {rows} feature rows"
    model.train()
    try:
        with autocast(config.trainer, device):
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


class Processes:
    """This process among `world_size` of them, and the device it computes on."""

    def __init__(self, device: torch.device):
        self.device = device
        if device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.world_size > 1 and not dist.is_initialized():
            # After a restart torchrun's own store still holds the addresses of the processes that
            # have died. Nodes that count different restarts need a store for each restart, which
            # TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives them.
            store, rank, world_size = next(rendezvous("env://"))
            is_kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if is_kept else "0"
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=dist.PrefixStore(f"attempt-{attempt}", store),
                rank=rank,
                world_size=world_size,
            )

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world_size == 1:
            return values
        moved = values.to(self.device)  # NCCL communicates between GPUs alone
        dist.all_reduce(moved)
        return moved.to(values.device)

    def sum_gradients(self, parameters: Iterable[nn.Parameter], extra: Tensor) -> Tensor:
        """Add up all gradients, and some numbers beside them, in a single message.

        A process that had no batch at this step has no gradients and counts as zeros.
        """
        if self.world_size == 1:
            return extra
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad.reshape(-1) for p in parameters if p.grad is not None]
        buffer = self.sum(torch.cat([*gradients, extra.to(gradients[0])]))
        offset = 0
        for parameter in parameters:
            assert parameter.grad is not None
            size = parameter.numel()
            parameter.grad.copy_(buffer[offset : offset + size].view_as(parameter))
            offset += size
        return buffer[offset:]

    def gather(self, names: list[str]) -> list[str]:
        """The names that any process gives, in the order of the processes."""
        if self.world_size == 1:
            return names
        gathered: list[list[str]] = [[] for _ in range(self.world_size)]
        dist.all_gather_object(gathered, names)
        return [name for given in gathered for name in given]

    def wait(self) -> None:
        if self.world_size > 1:
            dist.barrier()

    def close(self) -> None:
        if self.world_size > 1 and dist.is_initialized():
            dist.destroy_process_group()

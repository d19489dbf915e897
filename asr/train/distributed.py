"""Several processes that train one model, started by `torchrun`; alone, everything is a no-op."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous


class Processes:
    """This process among `world_size` of them, and the device it computes on."""

    def __init__(self, device: torch.device):
        self.device = device
        if device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.world_size > 1 and not dist.is_initialized():
            # After a restart the store still holds the addresses of the processes that have died.
            store, rank, world_size = next(rendezvous("env://"))
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
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

"""What a run learns: the part of training that differs from task to task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from asr.data.sampler import BucketSampler
from asr.train.device import Processes, autocast
from asr.train.optimization import make_optimizer


class Batch(Protocol):
    """Examples that are computed together; `len` of them."""

    @property
    def failures(self) -> list[str]: ...  # why examples that belong to it are missing

    @property
    def n_units(self) -> int: ...  # what speed is measured in

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Loss:
    """The loss of one batch.

    value: the sum over its examples. symbols, examples: what may be averaged over. views: versions
    of each utterance among the examples. values: more figures for the log.
    """

    value: Tensor
    symbols: int
    examples: int
    views: int = 1
    values: Mapping[str, float] = field(default_factory=dict)


class Task(ABC):
    """A model, its data, and how good it is. Subclasses give `batches`, `loss` and `evaluate`.

    Args:
        config: one of the configurations of `asr.train.config`.
        model: on the device of `processes`.
        sampler: of the training set.
        symbols: those that the model was made for; a run with others is another run.
        inputs: the files that the run learns from, and their digests.
    """

    unit = "symbol"  # what is counted
    logged: tuple[str, ...] = ()  # keys of Loss.values
    phases = 1  # each starts from the best weights of the one before

    def __init__(
        self,
        config: Any,
        model: nn.Module,
        sampler: BucketSampler,
        symbols: Sequence[str],
        inputs: Mapping[str, str],
        processes: Processes,
    ):
        self.config, self.model, self.sampler = config, model, sampler
        self.symbols, self.inputs, self.processes = list(symbols), inputs, processes

    @abstractmethod
    def batches(self) -> Iterable[Any]:
        """The batches that `sampler` chooses for this process, those without examples too."""

    @abstractmethod
    def loss(self, batch: Any) -> Loss:
        """The loss of a batch that has examples."""

    @abstractmethod
    def evaluate(self, alone: bool = False) -> dict[str, float]:
        """Metrics of the dev set, shared out over all processes, or by this one `alone`."""

    @abstractmethod
    def describe(self) -> None:
        """Write what an export needs besides the weights into the run's folder."""

    def format_metrics(self, metrics: Mapping[str, float]) -> str:
        """Metrics as a message shows them."""
        return f"{metrics['loss']:.4f} nats a {self.unit}"

    def score(self, metrics: Mapping[str, float], phase: int) -> float:
        """By what weights are compared; less is better."""
        return metrics["loss"]

    def backward(self, batch: Any, scaler: torch.amp.GradScaler) -> Loss:
        """Add the gradients of a batch."""
        with self.autocast():
            loss = self.loss(batch)
        scaler.scale(loss.value).backward()
        return loss

    def autocast(self) -> torch.autocast:
        return autocast(self.config.trainer, self.processes.device)

    def parameters(self) -> list[nn.Parameter]:
        """All that is learned."""
        return list(self.model.parameters())

    def make_optimizer(self) -> Optimizer:
        return make_optimizer(self.model.parameters(), self.config.optimizer)

    def check_memory(self) -> str:
        """A message about the memory that the largest batch takes, or none.

        Raises TrainingError if there is not enough.
        """
        return ""

    def bad_examples(self, batch: Any) -> list[str]:
        """The examples of a batch whose loss may be no number."""
        return []

    def may_be_result(self) -> bool:
        """Whether the weights of now may be the result of the run."""
        return True

    # Regularisers of the weights, by default none.

    def perturbed(self, step: int, phase: int) -> AbstractContextManager[None]:
        """Around the forward and backward passes of an update."""
        return nullcontext()

    def add_gradients(self, examples: float, phase: int) -> dict[str, float]:
        """Add the gradients of these examples to the sum; figures for the log."""
        return {}

    def stepping(self) -> AbstractContextManager[None]:
        """Around the optimiser's step."""
        return nullcontext()

    def after_update(  # noqa: B027
        self, step: int, total_steps: int, average: dict[str, Tensor]
    ) -> None:
        """Change the weights, and their moving average, after an update."""

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint holds besides the model and its optimiser."""
        return {}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Take what `state_dict` gave, out of all tensors of a checkpoint."""

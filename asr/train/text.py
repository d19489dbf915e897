"""The tasks that learn from text: language models and taggers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from asr.data.sampler import BucketSampler
from asr.errors import ConfigError, TrainingError
from asr.files import replacing
from asr.models.language import LanguageModel
from asr.punctuation.tagger import Tagger
from asr.train import checkpoint
from asr.train.checkpoint import BEST, LAST
from asr.train.config import LanguageTrainingConfig, PunctuationTrainingConfig
from asr.train.device import choose_device
from asr.train.distributed import Processes
from asr.train.log import RunLog
from asr.train.task import Loss, Task

TextConfiguration: TypeAlias = LanguageTrainingConfig | PunctuationTrainingConfig


class Examples(Protocol):
    """Text to train on: `lengths` are the symbols of each example that count in the loss."""

    @property
    def lengths(self) -> list[int]: ...

    def batch(self, chosen: Sequence[int]) -> tuple[Tensor, ...]: ...


@dataclass(frozen=True)
class TextBatch:
    """Some examples, as the arguments of the model's `loss`, and their symbols."""

    arguments: tuple[Tensor, ...]
    n_examples: int
    n_units: int
    failures: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.n_examples


class TextTask(Task):
    """Train a model whose `loss` takes a batch of `Examples` and returns the sum of -ln p.

    Args:
        batch_symbols: in a batch, padding included.
        description: what an export needs besides the weights, written to `description_file`.
    """

    description_file: str

    def __init__(
        self,
        config: TextConfiguration,
        model: LanguageModel | Tagger,
        symbols: Sequence[str],
        train: Examples,
        dev: Examples,
        batch_symbols: int,
        inputs: Mapping[str, str],
        description: Mapping[str, Any],
        processes: Processes,
    ):
        def sampler(examples: Examples, shuffle: bool) -> BucketSampler:
            return BucketSampler(
                examples.lengths,
                batch_symbols,
                seed=config.trainer.seed,
                shuffle=shuffle,
                rank=processes.rank,
                world_size=processes.world_size,
            )

        model = model.to(processes.device)
        super().__init__(config, model, sampler(train, True), symbols, inputs, processes)
        self.model: LanguageModel | Tagger = model
        self._train, self._dev, self._description = train, dev, description
        self._dev_sampler = sampler(dev, False)

    def batches(self) -> Iterator[TextBatch]:
        return self._batches(self._train, self.sampler)

    def loss(self, batch: TextBatch) -> Loss:
        arguments = (tensor.to(self.processes.device) for tensor in batch.arguments)
        return Loss(self.model.loss(*arguments), batch.n_units, batch.n_examples)

    @torch.inference_mode()
    def evaluate(self, alone: bool = False) -> dict[str, float]:
        """The loss, in nats a symbol."""
        sampler = self._dev_sampler.for_one_process() if alone else self._dev_sampler
        total, count = torch.zeros((), dtype=torch.float64), 0
        for batch in filter(len, self._batches(self._dev, sampler)):
            loss = self.loss(batch)
            total += loss.value.cpu().double()
            count += loss.symbols
        sums = torch.tensor([float(total), count], dtype=torch.float64)
        sums = sums if alone else self.processes.sum(sums)
        return {"loss": float(sums[0] / sums[1])}

    def describe(self) -> None:
        with replacing(Path(self.config.run, self.description_file)) as temporary:
            temporary.write_text(json.dumps(self._description, indent=1), encoding="utf-8")

    def _batches(self, examples: Examples, sampler: BucketSampler) -> Iterator[TextBatch]:
        for chosen in sampler:
            indices = [index for _, index in chosen]
            arguments = examples.batch(indices) if indices else ()
            symbols = sum(examples.lengths[i] for i in indices)
            yield TextBatch(arguments, len(indices), symbols)


def start_run(config: TextConfiguration) -> tuple[Processes, RunLog]:
    """The processes of a run, and its log.

    Raises ConfigError if it has no text, or no device.
    """
    for split in ("train", "dev"):
        if not getattr(config.data, split):
            raise ConfigError(f"data.{split} names no text", f"data.{split}=[FILE.txt]")
    processes = Processes(choose_device(config.trainer))
    return processes, RunLog(Path(config.run), processes.is_main)


def start_from(path: Path, model: nn.Module, symbols: Sequence[str]) -> str:
    """Give a model the weights of a file; returns a message about it.

    Raises TrainingError for weights of another vocabulary.
    """
    tensors, metadata = checkpoint.load(path)
    if metadata.get("vocabulary") != list(symbols):
        raise TrainingError(
            f"{path}: weights of another vocabulary",
            "start from those in the folder of a run, beside the file that lists its symbols",
        )
    model.load_state_dict(checkpoint.select(tensors, "model.") or tensors)
    return f"started from {path}"


def load_best(run: Path) -> dict[str, Tensor]:
    """The best weights of a run so far."""
    if (run / BEST).exists():
        return checkpoint.load(run / BEST)[0]
    return checkpoint.select(checkpoint.load(run / LAST)[0], "model.")

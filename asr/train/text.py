"""The tasks that learn from text: language models and taggers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from asr.config import build, to_dict
from asr.data.sampler import BucketSampler
from asr.data.sentences import (
    Sentences,
    character_vocabulary,
    piece_vocabulary,
    word_vocabulary,
)
from asr.errors import ConfigError, TrainingError
from asr.files import replacing
from asr.lm.text import read_sentences
from asr.models.language import LanguageModel
from asr.punctuation.tagger import Tagger
from asr.text.languages import normalizer
from asr.text.phones import TIMIT_61
from asr.text.vocabulary import Vocabulary
from asr.train import checkpoint
from asr.train.checkpoint import BEST, LAST
from asr.train.config import LanguageTrainingConfig, PunctuationTrainingConfig, TextConfig
from asr.train.device import Processes, choose_device
from asr.train.log import RunLog
from asr.train.loop import Trainer
from asr.train.runs import check_run, digests
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


MODEL_FILE = "language_model.json"  # in a run's folder: what an export needs besides the weights


class LanguageTask(TextTask):
    """Train a language model."""

    description_file = MODEL_FILE

    def evaluate(self, alone: bool = False) -> dict[str, float]:
        metrics = super().evaluate(alone)
        return {**metrics, "perplexity": math.exp(metrics["loss"])}

    def format_metrics(self, metrics: Mapping[str, float]) -> str:
        return f"{super().format_metrics(metrics)}, perplexity {metrics['perplexity']:.2f}"


def make_language_trainer(config: LanguageTrainingConfig) -> Trainer:
    """Read the text, learn its vocabulary where no run gives one, and build the network.

    Nothing is written. Raises ConfigError, LanguageModelError, VocabularyError or TrainingError
    before any time is spent on training.
    """
    processes, log = start_run(config)
    vocabulary = _vocabulary(config)
    inputs = digests((*config.data.train, *config.data.dev))
    resumes = check_run(Path(config.run), config, vocabulary.symbols, inputs)
    train, dev = (
        Sentences.encode(_read(config.data, split), vocabulary, config.data.most_symbols)
        for split in ("train", "dev")
    )
    log.info(f"{sum(train.lengths):,} symbols in {len(train.lengths):,} sequences")
    torch.manual_seed(config.trainer.seed)
    model = LanguageModel(len(vocabulary), config.model, config.model.tied)
    if config.trainer.init and not resumes:
        log.info(start_from(Path(config.trainer.init), model, vocabulary.symbols))
    task = LanguageTask(
        config,
        model,
        vocabulary.symbols,
        train,
        dev,
        config.data.batch_symbols,
        inputs,
        description={
            "kind": vocabulary.kind,
            "symbols": list(vocabulary.symbols),
            "training": to_dict(config),
        },
        processes=processes,
    )
    return Trainer(task, config, log)


def load_language_model(run: Path) -> tuple[LanguageModel, Vocabulary]:
    """The network of a run, its best weights so far, and its vocabulary.

    Raises TrainingError if the folder holds no such run.
    """
    description = _described(run)
    vocabulary = Vocabulary(tuple(description["symbols"]), description["kind"])
    config = build(LanguageTrainingConfig, description["training"])
    model = LanguageModel(len(vocabulary), config.model, config.model.tied)
    model.load_state_dict(load_best(run))
    return model.eval(), vocabulary


def _described(run: Path) -> dict[str, Any]:
    try:
        return json.loads((run / MODEL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{run}: not the folder of a language model's training ({error})",
            "give the run=FOLDER of asr train task=language_model",
        ) from error


def _read(config: TextConfig, split: str) -> Iterator[list[str]]:
    normalize = None if config.language is None else normalizer(config.language)
    return read_sentences(getattr(config, split), normalize)


def _vocabulary(config: LanguageTrainingConfig) -> Vocabulary:
    init, begun = config.trainer.init, Path(config.run, LAST).exists()
    for run in [*([Path(config.run)] if begun else []), *([Path(init).parent] if init else [])]:
        if (run / MODEL_FILE).exists():
            description = _described(run)
            return Vocabulary(tuple(description["symbols"]), description["kind"])
    data = config.data
    if data.units == "timit":
        return Vocabulary.phones(TIMIT_61)
    if data.units == "characters":
        return character_vocabulary(data.alphabet)
    learn = piece_vocabulary if data.units == "pieces" else word_vocabulary
    return learn(_read(data, "train"), data.size, data.alphabet)

"""The tasks that learn from text: language models and taggers."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from asr.config import build, to_dict
from asr.data.sampler import BucketSampler
from asr.errors import ConfigError, LanguageModelError, TrainingError
from asr.files import replacing
from asr.lm.text import read_sentences
from asr.models.language import LanguageModel
from asr.punctuation.tagger import Tagger
from asr.text.languages import normalizer
from asr.text.phones import TIMIT_61
from asr.text.vocabulary import BLANK, UNKNOWN, Vocabulary
from asr.train import checkpoint
from asr.train.checkpoint import BEST, LAST
from asr.train.config import LanguageTrainingConfig, PunctuationTrainingConfig, TextConfig
from asr.train.device import Processes, choose_device
from asr.train.log import RunLog
from asr.train.loop import Trainer
from asr.train.runs import check_run, digests
from asr.train.task import Loss, Task

_PIECES_FROM = 10_000_000  # characters of text that pieces are learned from


@dataclass(frozen=True)
class Sentences:
    """Symbols of all sentences in one array; sentence i is symbols[offsets[i]:offsets[i + 1]]."""

    symbols: np.ndarray
    offsets: np.ndarray

    @classmethod
    def encode(
        cls, sentences: Iterable[Sequence[str]], vocabulary: Vocabulary, most_symbols: int
    ) -> Sentences:
        """Spell sentences, each a list of words; pieces of longer ones are sentences too.

        Raises LanguageModelError for an empty text, VocabularyError for what cannot be spelled.
        """
        spell = vocabulary.encode if vocabulary.kind == "characters" else _cached(vocabulary)
        symbols, lengths = [], []
        for words in sentences:
            spelled = spell(" ".join(words))
            symbols.append(np.array(spelled, np.int32))
            whole, rest = divmod(len(spelled), most_symbols)
            lengths += [most_symbols] * whole + [rest] * (rest > 0)
        if not lengths:
            raise LanguageModelError("no sentence in these texts")
        return cls(np.concatenate(symbols), np.cumsum([0, *lengths]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> list[int]:
        """Symbols of each sentence, its end included."""
        return (np.diff(self.offsets) + 1).tolist()

    def batch(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sentences padded with zeros (B, U), and their lengths (B,) without the ends."""
        begins, ends = self.offsets[chosen], self.offsets[np.asarray(chosen) + 1]
        padded = np.zeros((len(chosen), int((ends - begins).max())), np.int64)
        for row, begin, end in zip(padded, begins, ends, strict=True):
            row[: end - begin] = self.symbols[begin:end]
        return torch.from_numpy(padded), torch.from_numpy(ends - begins)


def character_vocabulary(alphabet: str) -> Vocabulary:
    """Space and letters, and `<unk>` for all others."""
    return Vocabulary((BLANK, " ", *alphabet, UNKNOWN))


def word_vocabulary(sentences: Iterable[Sequence[str]], size: int, alphabet: str) -> Vocabulary:
    """The most frequent words that `alphabet` spells, and `<unk>`: `size` classes in all."""
    counts = Counter(itertools.chain.from_iterable(sentences))
    letters = set(alphabet)
    spelled = ((-n, word) for word, n in counts.items() if letters.issuperset(word))
    frequent = sorted(spelled)[: size - 2]
    return Vocabulary((BLANK, *(word for _, word in frequent), UNKNOWN), "words")


def piece_vocabulary(sentences: Iterable[Sequence[str]], size: int, alphabet: str) -> Vocabulary:
    """Pieces of the words that `alphabet` spells, and `<unk>`: `size` classes in all."""
    from asr.text.vocabulary import train_pieces

    letters, texts, left = set(alphabet), [], _PIECES_FROM
    for words in sentences:
        texts.append(" ".join(word for word in words if letters.issuperset(word)))
        left -= len(texts[-1])
        if left < 0:
            break
    learned = train_pieces(texts, size - 1)
    return Vocabulary((*learned.symbols, UNKNOWN), "pieces")


def _cached(vocabulary: Vocabulary):
    """`vocabulary.encode` for units that end with the word: each word is spelled once."""
    known: dict[str, list[int]] = {}

    def spell(text: str) -> list[int]:
        spelled = []
        for word in text.split():
            if word not in known:
                known[word] = vocabulary.encode(word)
            spelled += known[word]
        return spelled

    return spell


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

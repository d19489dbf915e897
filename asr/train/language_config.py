"""Every setting of the training of a language model. `conf/language_model.yaml` holds values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from asr.models.language import SymbolConfig
from asr.train.config import OptimizerConfig


@dataclass(frozen=True)
class TextConfig:
    """Which text, and in which units it is predicted.

    train, dev: texts with a sentence a line, plain or compressed, or manifests (.jsonl).
    units: `characters` of `alphabet`; `pieces`, of which `size` are learned by byte-pair encoding;
    `words`, the `size` most frequent; or `timit`, phone labels that stand in a manifest in place of
    the words, as the transcripts of `asr-prepare timit` do. Characters outside the alphabet, and
    words that are not among the frequent ones, become `<unk>`.
    language: whose rules normalise the text; null takes it as it is, as phone labels must be.
    most_symbols: longer sentences are cut. batch_symbols: in a batch, padding included.
    """

    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    units: Literal["characters", "pieces", "words", "timit"] = "pieces"
    size: int = 4000
    alphabet: str = "abcdefghijklmnopqrstuvwxyz'"
    language: str | None = "en"
    most_symbols: int = 100
    batch_symbols: int = 3000


@dataclass(frozen=True)
class LanguageModelConfig(SymbolConfig):
    """The network: see SymbolConfig; `tied`: the embedding is also the weight of the output."""

    projection: int | None = 256
    dropout: float = 0.1
    tied: bool = True


@dataclass(frozen=True)
class SequenceTrainerConfig:
    """The course of a run that reads text, whatever it learns of it.

    steps: updates in all, over however many passes through the text these are. evaluate_steps:
    updates between two looks at the dev text; the best weights of these are kept. patience: looks
    without a better one until the run stops early. init: weights to start from, with their
    vocabulary. precision: `bf16` runs the network in bfloat16 by autocast.
    """

    steps: int = 10_000
    evaluate_steps: int = 1000
    patience: int = 5
    seed: int = 1
    device: str = "auto"
    init: str | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_minutes: float = 10.0
    log_steps: int = 20


@dataclass(frozen=True)
class LanguageTrainingConfig:
    """One training run; its files are under `run`."""

    run: str
    data: TextConfig = field(default_factory=TextConfig)
    model: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: SequenceTrainerConfig = field(default_factory=SequenceTrainerConfig)

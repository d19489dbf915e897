"""Every setting of the training that restores case and punctuation; `conf/punctuation.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, field

from asr.models.punctuation import TaggerConfig
from asr.train.config import OptimizerConfig
from asr.train.language_config import SequenceTrainerConfig


@dataclass(frozen=True)
class WrittenConfig:
    """Which text.

    train, dev: cased and punctuated texts with a sentence or paragraph a line, plain or compressed,
    or manifests (.jsonl); a text given twice counts twice. Lines that do not show how they should
    be written are left out. language: whose rules spell out numbers.
    join: each example is of one to so many neighbouring lines. most_words: in an example; longer
    lines are cut. batch_words: in a batch, padding included.
    """

    train: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    language: str = "en"
    join: int = 3
    most_words: int = 60
    batch_words: int = 4000


@dataclass(frozen=True)
class PunctuationTrainingConfig:
    """One training run; its files are under `run`."""

    run: str
    data: WrittenConfig = field(default_factory=WrittenConfig)
    model: TaggerConfig = field(default_factory=TaggerConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: SequenceTrainerConfig = field(
        default_factory=lambda: SequenceTrainerConfig(steps=3000, evaluate_steps=500)
    )

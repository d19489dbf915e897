"""Training of recurrent language models."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from asr.config import build, to_dict
from asr.data.sentences import (
    Sentences,
    character_vocabulary,
    piece_vocabulary,
    word_vocabulary,
)
from asr.errors import TrainingError
from asr.lm.text import read_sentences
from asr.models.language import LanguageModel
from asr.text.languages import normalizer
from asr.text.phones import TIMIT_61
from asr.text.vocabulary import Vocabulary
from asr.train.checkpoint import LAST
from asr.train.config import LanguageTrainingConfig, TextConfig
from asr.train.loop import Trainer
from asr.train.runs import check_run, digests
from asr.train.text import TextTask, load_best, start_from, start_run

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

"""Training of the network that restores case and punctuation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from asr.config import build, to_dict
from asr.errors import TrainingError
from asr.lm.text import read_written
from asr.punctuation.dataset import Written
from asr.punctuation.labels import CASES, MARKS
from asr.punctuation.tagger import Tagger
from asr.train.config import PunctuationTrainingConfig
from asr.train.loop import Trainer
from asr.train.runs import check_run, digests
from asr.train.text import TextTask, load_best, start_from, start_run

MODEL_FILE = "punctuation.json"  # in a run's folder: what an export needs besides the weights


class PunctuationTask(TextTask):
    """Train a tagger."""

    unit = "word"
    description_file = MODEL_FILE


def make_punctuation_trainer(config: PunctuationTrainingConfig) -> Trainer:
    """Read the text, note the words with special forms, and build the network.

    Nothing is written. Raises ConfigError, TrainingError or LanguageModelError before any time is
    spent on training.
    """
    data = config.data
    processes, log = start_run(config)
    symbols = (*MARKS, *CASES)
    inputs = digests((*data.train, *data.dev))
    resumes = check_run(Path(config.run), config, symbols, inputs)
    train, dev = (
        Written.encode(
            read_written(paths, data.language),
            config.model.rows,
            join=data.join,
            most_words=data.most_words,
            seed=config.trainer.seed,
        )
        for paths in (data.train, data.dev)
    )
    log.info(f"{sum(train.lengths):,} words in {len(train.lengths):,} sequences")
    log.info(f"{train.left_out:,} lines do not show how they should be written")
    torch.manual_seed(config.trainer.seed)
    model = Tagger(config.model)
    if config.trainer.init and not resumes:
        log.info(start_from(Path(config.trainer.init), model, symbols))
    task = PunctuationTask(
        config,
        model,
        symbols,
        train,
        dev,
        data.batch_words,
        inputs,
        description={"forms": train.forms, "training": to_dict(config)},
        processes=processes,
    )
    return Trainer(task, config, log)


def load_tagger(run: Path) -> tuple[Tagger, dict[str, str]]:
    """The network of a run, its best weights so far, and the special forms of words.

    Raises TrainingError if the folder holds no such run.
    """
    try:
        description: dict[str, Any] = json.loads((run / MODEL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{run}: not the folder of such a training ({error})",
            "give the run=FOLDER of asr train task=punctuation",
        ) from error
    config = build(PunctuationTrainingConfig, description["training"])
    model = Tagger(config.model)
    model.load_state_dict(load_best(run))
    return model.eval(), description["forms"]

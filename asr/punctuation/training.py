"""Training of the network that restores case and punctuation."""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.config import build, to_dict
from asr.errors import TrainingError
from asr.lm.text import read_written
from asr.punctuation.labels import (
    CAPITAL,
    CASES,
    MARKS,
    UNKNOWN_CASE,
    Labelled,
    capitalized,
    rows_of,
)
from asr.punctuation.tagger import Tagger
from asr.train.config import PunctuationTrainingConfig
from asr.train.loop import Trainer
from asr.train.runs import check_run, digests
from asr.train.text import TextTask, load_best, start_from, start_run

_MIN_COUNT = 3  # of a form that is taken for the usual one of a word


@dataclass(frozen=True)
class Written:
    """All words of a text, in one array; example i is words[offsets[i]:offsets[i + 1]].

    words: which row of `rows` each is, (words,); labels: mark and case of each, (words, 2), where
    the case of a word that begins a sentence is unknown; rows: the rows of the network's table for
    each distinct word, (distinct, KEYS). forms: of words with
    capitals in other places than the first. left_out: lines that do not show how they should be
    written.
    """

    words: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray
    rows: np.ndarray
    forms: Mapping[str, str]
    left_out: int

    @classmethod
    def encode(
        cls,
        lines: Iterable[Labelled | None],
        table: int,
        *,
        join: int = 1,
        most_words: int = 100,
        seed: int = 0,
    ) -> Written:
        """Lines as examples: of one to `join` neighbours each, of `most_words` at most.

        `table`: rows of the network's table. Raises TrainingError if no line can be used.
        """
        rng = np.random.default_rng(seed)
        known: dict[str, int] = {}
        capitals: dict[str, Counter[str]] = defaultdict(Counter)
        words, marks, cases, offsets = array("i"), array("b"), array("b"), [0]
        left_out, more = 0, 0
        for line in lines:
            if line is None:
                left_out += 1
                continue
            n_words = len(words) + len(line.words) - offsets[-1]
            if len(words) > offsets[-1] and (more == 0 or n_words > most_words):
                offsets.append(len(words))
                more = 0
            if len(words) == offsets[-1]:
                more = int(rng.integers(1, join + 1))
            more -= 1
            words.extend(known.setdefault(word, len(known)) for word in line.words)
            marks.extend(line.marks)
            told = [
                UNKNOWN_CASE if begins else case
                for begins, case in zip(line.begins, line.cases, strict=True)
            ]
            cases.extend(told)
            for word, form, case in zip(line.words, line.forms, told, strict=True):
                if case == CAPITAL:
                    capitals[word][form] += 1
            while len(words) - offsets[-1] > most_words:
                offsets.append(offsets[-1] + most_words)
        if not words:
            raise TrainingError(
                "no line in these texts has a capital at its beginning and a mark at its end",
                "give text as it is written",
            )
        if offsets[-1] < len(words):
            offsets.append(len(words))
        return cls(
            np.array(words, np.int32),
            np.stack([np.array(marks, np.int8), np.array(cases, np.int8)], axis=1),
            np.array(offsets),
            np.array([rows_of(word, table) for word in known], np.int32),
            special_forms(capitals),
            left_out,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> list[int]:
        """Words of each example."""
        return np.diff(self.offsets).tolist()

    def batch(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (B, U, KEYS), labels (B, U, 2), padded, and lengths (B,) of some examples."""
        begins, ends = self.offsets[chosen], self.offsets[np.asarray(chosen) + 1]
        longest = int((ends - begins).max())
        rows = np.zeros((len(chosen), longest, self.rows.shape[1]), np.int64)
        labels = np.full((len(chosen), longest, 2), UNKNOWN_CASE, np.int64)
        for i, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            rows[i, : end - begin] = self.rows[self.words[begin:end]]
            labels[i, : end - begin] = self.labels[begin:end]
        return torch.from_numpy(rows), torch.from_numpy(labels), torch.from_numpy(ends - begins)


def special_forms(capitals: Mapping[str, Counter[str]]) -> dict[str, str]:
    """Words that have capitals in other places than the first, in their most frequent form.

    >>> special_forms({"mccoy": Counter(McCoy=3, Mccoy=1), "tom": Counter(Tom=5, TOm=1)})
    {'mccoy': 'McCoy'}
    """
    usual = {word: forms.most_common(1)[0] for word, forms in capitals.items()}
    return {
        word: form
        for word, (form, count) in sorted(usual.items())
        if form != capitalized(word) and form.lower() == word and count >= _MIN_COUNT
    }


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

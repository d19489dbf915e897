"""From text files to a language model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from asr.lm.backoff import BackoffModel
from asr.lm.corpus import ALL_WORDS, Tokenizer, Tokens, VocabularyChoice
from asr.lm.counts import Report, count_ngrams
from asr.lm.kneser_ney import estimate
from asr.text.vocabulary import WordList

_COUNT = 0.6  # share of the work: counting, beside estimating


class Training(Protocol):
    """Told how far the work is: what is done now, and which share of all of it has been."""

    def __call__(self, stage: str, share: float) -> object: ...


def train(
    corpora: Sequence[Iterable[list[str]]],
    order: int,
    *,
    prune: Sequence[int] = (),
    pooled: bool = False,
    vocabulary: VocabularyChoice = ALL_WORDS,
    work_folder: Path | None = None,
    progress: Training | None = None,
) -> list[BackoffModel]:
    """One model for each corpus, all with the vocabulary of all corpora together.

    With `pooled` there is one more at the end, of all corpora as if they were one. A corpus is an
    iterable of sentences, each a list of words. Some 12 bytes a word and 40 an n-gram go to
    temporary files in `work_folder` (by default the system's); the arrays of the models stay there,
    without a name, as long as they are used. `progress` is called once the text has been read.
    """
    # What is mapped can be unlinked, but not on every system.
    with tempfile.TemporaryDirectory(dir=work_folder, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        tokenizer = Tokenizer()
        for i, sentences in enumerate(corpora):
            tokenizer.add(sentences, folder / f"corpus-{i}")
        words = tokenizer.vocabulary(vocabulary)
        if pooled:
            tokenizer.pool(folder / "pooled")
        texts = tokenizer.corpora(words)
        total, done = sum(map(len, texts)), 0
        models = []
        for i, tokens in enumerate(texts):
            report = _Share(progress, done / total, len(tokens) / total)
            own = folder / f"model-{i}"
            own.mkdir()
            models.append(_train_one(tokens, words, order, prune, own, report))
            done += len(tokens)
        return models


@dataclass(frozen=True)
class _Share:
    """Reports the progress of one part of the work as that of the whole."""

    progress: Training | None
    begin: float
    size: float

    def of(self, stage: str, begin: float, size: float) -> Report:
        def report(share: float) -> None:
            if self.progress is not None:
                self.progress(stage, self.begin + self.size * (begin + size * share))

        return report


def _train_one(
    tokens: Tokens,
    words: WordList,
    order: int,
    prune: Sequence[int],
    folder: Path,
    share: _Share,
) -> BackoffModel:
    counting = share.of("counting", 0.0, _COUNT)
    counts = count_ngrams(tokens, len(words), order, folder, report=counting)
    estimating = share.of("estimating", _COUNT, 1 - _COUNT)
    model = estimate(counts, words, folder, prune, report=estimating)
    counts.keys.remove()
    counts.counts.remove()
    return model

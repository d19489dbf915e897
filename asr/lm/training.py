"""From text files to a language model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from asr.lm.backoff import BackoffModel
from asr.lm.corpus import ALL_WORDS, Tokenizer, VocabularyChoice
from asr.lm.counts import count_ngrams
from asr.lm.kneser_ney import estimate


def train(
    corpora: Sequence[Iterable[list[str]]],
    order: int,
    *,
    prune: Sequence[int] = (),
    pooled: bool = False,
    vocabulary: VocabularyChoice = ALL_WORDS,
    work_folder: Path | None = None,
) -> list[BackoffModel]:
    """One model for each corpus, all with the vocabulary of all corpora together.

    With `pooled` there is one more at the end, of all corpora as if they were one. A corpus is an
    iterable of sentences, each a list of words. Some 12 bytes a word and 16 an n-gram go to
    temporary files in `work_folder` (by default the system's).
    """
    with tempfile.TemporaryDirectory(dir=work_folder) as name:
        folder = Path(name)
        tokenizer = Tokenizer()
        for i, sentences in enumerate(corpora):
            tokenizer.add(sentences, folder / f"corpus-{i}")
        words = tokenizer.vocabulary(vocabulary)
        if pooled:
            tokenizer.pool(folder / "pooled")
        return [
            estimate(count_ngrams(tokens, len(words), order, folder), words, prune)
            for tokens in tokenizer.corpora(words)
        ]

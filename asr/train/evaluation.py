"""Error rates on the development set while training: greedy decoding, no language model."""

from __future__ import annotations

from collections.abc import Iterable

import jiwer
import torch
from torch import Tensor

from asr.data.dataset import Batch
from asr.models.acoustic import AcousticModel
from asr.text.normalize import normalize
from asr.text.phones import TIMIT_61, fold
from asr.text.vocabulary import Vocabulary


def greedy_texts(log_probs: Tensor, lengths: Tensor, vocabulary: Vocabulary) -> list[str]:
    """The most probable class of each frame of (B, T, classes), without repeats and blanks."""
    best = log_probs.argmax(dim=-1).cpu()
    texts = []
    for row, length in zip(best, lengths, strict=True):
        classes = torch.unique_consecutive(row[:length]).tolist()
        texts.append(vocabulary.decode([c for c in classes if c != vocabulary.blank]))
    return texts


@torch.inference_mode()
def count_errors(
    model: AcousticModel, batches: Iterable[Batch], vocabulary: Vocabulary
) -> torch.Tensor:
    """(word errors, words, character errors, characters, -ln p(targets), symbols), summed.

    Phones are words and characters at once; the 61 of TIMIT are scored as 39 (Lee & Hon 1989).
    """
    timit = set(TIMIT_61) <= set(vocabulary.symbols)
    counts = torch.zeros(6, dtype=torch.float64)
    for batch in batches:
        if not batch.texts:
            continue
        log_probs, lengths = model(batch.features, batch.lengths)
        counts[4:] += _loss(log_probs, lengths, batch, model.primary)
        hypotheses = greedy_texts(log_probs, lengths, vocabulary)
        for text, hypothesis in zip(batch.texts, hypotheses, strict=True):
            if timit:
                reference, hypothesis = (" ".join(fold(t.split())) for t in (text, hypothesis))
            else:
                reference = normalize(text)
            if not reference:
                continue
            words = jiwer.process_words(reference, hypothesis)
            phones = vocabulary.kind == "phones"
            characters = words if phones else jiwer.process_characters(reference, hypothesis)
            for offset, result in ((0, words), (2, characters)):
                errors = result.substitutions + result.deletions + result.insertions
                counts[offset] += errors
                counts[offset + 1] += result.hits + result.substitutions + result.deletions
    return counts


def _loss(log_probs: Tensor, lengths: Tensor, batch: Batch, head: str) -> Tensor:
    """-ln p of the targets that there are and that CTC can spell, and their symbols."""
    known = batch.target_lengths[head] >= 0
    if not known.any():
        return torch.zeros(2, dtype=torch.float64)
    n_symbols = batch.target_lengths[head][known]
    losses = torch.nn.functional.ctc_loss(
        log_probs[known].transpose(0, 1),
        batch.targets[head][known],
        lengths[known],
        n_symbols,
        reduction="none",
    ).cpu()
    possible = losses.isfinite()
    return torch.stack([losses[possible].double().sum(), n_symbols[possible].double().sum()])

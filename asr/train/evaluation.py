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
from asr.train.crf import UnitTrigram, crf_term


@torch.inference_mode()
def count_errors(
    model: AcousticModel,
    batches: Iterable[Batch],
    vocabulary: Vocabulary,
    trigram: UnitTrigram | None = None,
) -> torch.Tensor:
    """(word errors, words, character errors, characters, -ln p(targets), symbols), summed.

    With the `trigram` of a first head that is trained by CTC-CRF, p is that criterion's.

    Phones are words and characters at once; the 61 of TIMIT are scored as 39 (Lee & Hon 1989).
    """
    timit = set(TIMIT_61) <= set(vocabulary.symbols)
    counts = torch.zeros(6, dtype=torch.float64)
    for batch in batches:
        if not batch.texts:
            continue
        outputs, lengths = model(batch.features, batch.lengths)
        counts[4:] += _loss(model, outputs, lengths, batch, trigram)
        decoded = model.head().decode(outputs, lengths)
        for text, symbols in zip(batch.texts, decoded, strict=True):
            hypothesis = vocabulary.decode(symbols)
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


def _loss(
    model: AcousticModel,
    outputs: Tensor,
    lengths: Tensor,
    batch: Batch,
    trigram: UnitTrigram | None,
) -> Tensor:
    """-ln p of the targets that there are and that are possible, and their symbols."""
    head = model.primary
    known = batch.target_lengths[head] >= 0
    if not known.any():
        return torch.zeros(2, dtype=torch.float64)
    n_symbols = batch.target_lengths[head][known]
    targets = batch.targets[head][known]
    losses = model.head().losses(outputs[known], lengths[known], targets, n_symbols)
    possible = (losses != 0).cpu()
    if trigram is not None:
        losses = losses + crf_term(outputs[known], lengths[known], targets, n_symbols, trigram)
    losses = losses.cpu()
    return torch.stack([losses[possible].double().sum(), n_symbols[possible].double().sum()])

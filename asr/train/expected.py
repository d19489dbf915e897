"""Expected word errors: training for what a recogniser is judged by, its search included.

CTC and CTC-CRF raise the probability of the transcript, whatever a decoder would have written.
Here the decoder lists the best texts for an utterance as the network hears it now; their scores,
taken as probabilities among themselves, say how many words wrong are to be expected, and that is
what falls: what has fewer errors than the mean of the list is pushed up, the rest down.

Graves & Jaitly, "Towards end-to-end speech recognition with recurrent neural networks", ICML 2014
(expected transcription loss, by sampled paths); over N-best lists: Prabhavalkar et al., "Minimum
word error rate training for attention-based sequence-to-sequence models", ICASSP 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.decode.beam import BeamSearchDecoder
from asr.decode.lexicon import Lexicon
from asr.lm.ngram import NGram
from asr.metrics import word_errors
from asr.text.normalize import normalize
from asr.text.targets import Targets
from asr.text.vocabulary import Vocabulary
from asr.train.config import ListConfig

_FRAME_SHIFT = 1.0  # the search wants to know it for times of words, which nobody reads here


def list_decoder(
    vocabulary: Vocabulary, lm: NGram | None, lexicon: Lexicon | None, config: ListConfig
) -> BeamSearchDecoder:
    """The search for texts; with a language model or a lexicon, of words that it knows."""
    return BeamSearchDecoder(
        vocabulary,
        lm=lm,
        lexicon=lexicon,
        beam=config.beam,
        beam_threshold=config.beam_threshold,
        token_threshold=config.token_threshold,
        lm_weight=config.lm_weight,
        word_bonus=config.word_bonus,
        horizon=math.inf,
        closed=lm is not None or lexicon is not None,
    )


class ExpectedErrors:
    """Of the `nbest` texts that `decoder` finds for the outputs of a head of CTC.

    A text's score is that of the decoder, with the likelihood of the text as `spell` writes it. A
    language model that knows the training texts by heart finds no errors in them to learn from:
    give the decoder a weaker one, of few words of context and of other texts.
    """

    def __init__(self, decoder: BeamSearchDecoder, spell: Targets, nbest: int):
        self._decoder = decoder
        self._spell = spell
        self._nbest = nbest

    def __call__(self, log_probs: Tensor, lengths: Tensor, texts: Sequence[str]) -> Tensor:
        """(B, T, classes) with the blank at 0, lengths (B,), transcripts -> word errors (B,)."""
        if not log_probs.detach().isfinite().all():
            return log_probs.new_full((len(texts),), torch.nan)  # for the trainer to see
        rows = log_probs.detach().float().cpu().numpy()
        lists = [
            self._list(row[:length], normalize(text))
            for row, length, text in zip(rows, lengths.tolist(), texts, strict=True)
        ]
        owners = torch.tensor([b for b, found in enumerate(lists) for _ in found])
        if not len(owners):
            return log_probs.sum(dim=(1, 2)) * 0.0
        targets, weights, errors = zip(*(entry for found in lists for entry in found), strict=True)
        losses = nn.functional.ctc_loss(
            log_probs[owners.to(log_probs.device)].transpose(0, 1),
            pad_sequence([torch.tensor(t, dtype=torch.long) for t in targets], batch_first=True),
            lengths[owners],
            torch.tensor([len(t) for t in targets]),
            reduction="none",
            zero_infinity=True,
        )
        scores = losses.new_tensor(weights) - losses
        scores = scores.masked_fill(losses.detach() == 0, -torch.inf)  # what cannot be spelled
        expected = []
        sizes = [len(found) for found in lists]
        counts = losses.new_tensor(errors)
        for score, wrong in zip(scores.split(sizes), counts.split(sizes), strict=True):
            possible = score.isfinite()
            share = score[possible].softmax(dim=0)
            expected.append((share * wrong[possible]).sum())
        return torch.stack(expected)

    def _list(self, rows: np.ndarray, reference: str) -> list[tuple[list[int], float, int]]:
        """Class indices, logarithm of all factors but the acoustics, and word errors of texts."""
        found = []
        for hypothesis in self._decoder.decode(rows, _FRAME_SHIFT, self._nbest):
            target = self._spell(hypothesis.text)
            if target is not None:
                weight = hypothesis.score - hypothesis.acoustic_score
                found.append((target, weight, word_errors(reference, hypothesis.text)))
        return found

"""Two heads of one network judge a text together.

The first head, of phones for example, is searched; the second spells the same audio in other
units, characters for example, and errs elsewhere. Their log-likelihoods are interpolated on the
N-best list of the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from asr.decode.beam import BeamSearchDecoder
from asr.decode.likelihood import CTCScorer
from asr.decode.rescoring import rescore
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis


class TwoHeadDecoder:
    """A beam search over the first head whose N-best list the second head helps to rank.

    The acoustic score of a text becomes (1 - w) * first + w * second, where w is the decoder's
    `second_weight`; language model and bonuses keep their weights.
    """

    def __init__(self, search: BeamSearchDecoder, second_vocabulary: Vocabulary):
        self.search = search
        self.second_vocabulary = second_vocabulary

    def decode(
        self, heads: tuple[np.ndarray, np.ndarray], frame_shift: float, nbest: int = 1
    ) -> list[Hypothesis]:
        """`heads`: log-probabilities (frames, classes) of the first and of the second head."""
        first, second = heads
        config = self.search.config
        hypotheses = self.search.decode(first, frame_shift, max(nbest, config.second_nbest))
        scorer = CTCScorer(second, self.second_vocabulary)
        return interpolate(hypotheses, scorer, config.second_weight)[:nbest]

    def decode_batch(
        self,
        heads: Sequence[tuple[np.ndarray, np.ndarray]],
        frame_shift: float,
        threads: int = 1,
        nbest: int = 1,
    ) -> list[list[Hypothesis]]:
        """`decode` for several utterances on `threads` threads at once."""
        with ThreadPoolExecutor(max(1, threads)) as pool:
            return list(pool.map(lambda pair: self.decode(pair, frame_shift, nbest), heads))


def interpolate(
    hypotheses: Sequence[Hypothesis], scorer: CTCScorer, weight: float
) -> list[Hypothesis]:
    """The hypotheses with `weight` of their acoustic score taken from `scorer`, the best first.

    If the scorer can spell none of them, they stay as they are.
    """
    scores = scorer([hypothesis.text for hypothesis in hypotheses])
    if not any(np.isfinite(scores)):
        return list(hypotheses)
    lowered = [
        replace(
            hypothesis,
            score=hypothesis.score - weight * hypothesis.acoustic_score,
            acoustic_score=(1 - weight) * hypothesis.acoustic_score + weight * score,
        )
        for hypothesis, score in zip(hypotheses, scores, strict=True)
    ]
    return rescore(lowered, [(lambda _: scores, weight)])

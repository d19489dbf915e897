"""Two heads of one network judge a text together.

The first head, of phones for example, is searched; the second spells the same audio in other
units, characters for example, and errs elsewhere. Their log-likelihoods are interpolated on the
N-best list of the search.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from asr.decode.batches import DecodesBatches
from asr.decode.beam import BeamSearchDecoder, Judge
from asr.decode.config import DecoderConfig
from asr.decode.likelihood import CTCScorer
from asr.decode.rescoring import rescore
from asr.decode.words import Partial
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis


class TwoHeadDecoder(DecodesBatches):
    """A beam search over the first head whose N-best list the second head helps to rank.

    The acoustic score of a text becomes (1 - w) * first + w * second, where w is the decoder's
    `second_weight`; language model and bonuses keep their weights.
    """

    def __init__(self, search: BeamSearchDecoder, second_vocabulary: Vocabulary):
        self.search = search
        self.second_vocabulary = second_vocabulary

    @property
    def config(self) -> DecoderConfig:
        return self.search.config

    def decode(
        self, heads: tuple[np.ndarray, np.ndarray], frame_shift: float, nbest: int = 1
    ) -> list[Hypothesis]:
        """`heads`: log-probabilities (frames, classes) of the first and of the second head."""
        stream = self.stream(frame_shift)
        stream.feed(*heads)
        return stream.finish(nbest)

    def variant(
        self, *, beam: int | None = None, hotwords: Mapping[str, float] | Iterable[str] = ()
    ) -> TwoHeadDecoder:
        """See `BeamSearchDecoder.variant`."""
        return TwoHeadDecoder(
            self.search.variant(beam=beam, hotwords=hotwords), self.second_vocabulary
        )

    def stream(self, frame_shift: float) -> TwoHeadStream:
        """A decoder of one utterance that comes in pieces."""
        return TwoHeadStream(self, frame_shift)


class TwoHeadStream:
    """One utterance: `feed` any number of times, `partial` in between, `finish` once.

    What is partial is the first head's alone; the second may yet prefer another text.
    """

    def __init__(self, decoder: TwoHeadDecoder, frame_shift: float):
        self._decoder = decoder
        self._search = decoder.search.stream(frame_shift)
        self._second: list[np.ndarray] = []

    def feed(self, first: np.ndarray, second: np.ndarray) -> None:
        """Go on with the log-probabilities (frames, classes) of both heads."""
        self._search.feed(first)
        self._second.append(second)

    def partial(self) -> Partial:
        """The likeliest text so far; none of it is stable."""
        return Partial(self._search.partial().text, "")

    def finish(
        self, nbest: int = 1, judge: Judge | None = None, judged: int = 1
    ) -> list[Hypothesis]:
        """The best `nbest` texts of all that was fed, the best first; the stream is over then.

        `judge` may put the best `judged` of them into another order before.
        """
        if not self._second:
            return self._search.finish(nbest, judge, judged)
        config = self._decoder.search.config
        scorer = CTCScorer(np.concatenate(self._second), self._decoder.second_vocabulary)

        def together(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
            ranked = interpolate(hypotheses, scorer, config.second_weight)
            return judge(ranked[: max(nbest, judged)]) if judge else ranked

        return self._search.finish(nbest, together, max(judged, config.second_nbest))


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

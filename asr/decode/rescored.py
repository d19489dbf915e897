"""A search whose N-best list is ranked anew by a second language model, a recurrent one as a rule.

The search needs a model that answers in a microsecond; one that is slower but looks further back
can still judge the hundred texts that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from asr.decode.batches import DecodesStreams
from asr.decode.beam import BeamSearchDecoder
from asr.decode.config import DecoderConfig
from asr.decode.rescoring import Scorer, rescore
from asr.decode.second import TwoHeadDecoder
from asr.decode.words import Partial
from asr.types import Hypothesis


class RescoredDecoder(DecodesStreams):
    """Interpolates the language models: (1 - w) * ln p of the search's own + w * ln p of `scorer`.

    w is the decoder's `rescore_weight`; the sum counts with `lm_weight`, as before.
    """

    def __init__(self, search: BeamSearchDecoder | TwoHeadDecoder, scorer: Scorer):
        self.search = search
        self.scorer = scorer

    @property
    def config(self) -> DecoderConfig:
        return self.search.config

    def variant(
        self, *, beam: int | None = None, hotwords: Mapping[str, float] | Iterable[str] = ()
    ) -> RescoredDecoder:
        """See `BeamSearchDecoder.variant`."""
        return RescoredDecoder(self.search.variant(beam=beam, hotwords=hotwords), self.scorer)

    def stream(self, frame_shift: float) -> RescoredStream:
        """A decoder of one utterance that comes in pieces."""
        return RescoredStream(self, frame_shift)

    def rank(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        """The hypotheses with the share of the language model exchanged, the best first."""
        scores = self.scorer([hypothesis.text for hypothesis in hypotheses]) if hypotheses else ()
        share = self.config.rescore_weight
        exchanged = [
            replace(h, lm_score=(1 - share) * h.lm_score + share * float(score))
            for h, score in zip(hypotheses, scores, strict=True)
        ]
        gained = [
            new.lm_score - old.lm_score for new, old in zip(exchanged, hypotheses, strict=True)
        ]
        return rescore(exchanged, [(lambda _: gained, self.config.lm_weight)])


class RescoredStream:
    """One utterance: `feed` any number of times, `partial` in between, `finish` once.

    What is partial is the search's alone; the other model may yet prefer another text.
    """

    def __init__(self, decoder: RescoredDecoder, frame_shift: float):
        self._decoder = decoder
        self._search = decoder.search.stream(frame_shift)

    @property
    def feed(self) -> Callable[..., None]:
        """Go on with more log-probabilities."""
        return self._search.feed

    def partial(self) -> Partial:
        """The likeliest text so far; none of it is stable."""
        return Partial(self._search.partial().text, "")

    def finish(self, nbest: int = 1) -> list[Hypothesis]:
        """The best `nbest` texts of all that was fed, the best first; the stream is over then."""
        decoder = self._decoder
        return self._search.finish(nbest, decoder.rank, decoder.config.rescore_nbest)

"""What fits no text gives none: another language, as a rule, or sound that is no speech.

The network writes down what it hears, sound by sound; the search looks for words. Where somebody
speaks the language of the words, the text found is nearly as likely as the likeliest sounds. Where
not, the sounds are clear and no words fit them. That is a likelihood ratio test of the text against
a loop of all units (Sukkar & Lee 1996, "Vocabulary independent discriminative utterance
verification", IEEE Transactions on Speech and Audio Processing), and needs no model of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from asr.decode.batches import DecodesStreams
from asr.decode.beam import BeamSearchDecoder
from asr.decode.config import DecoderConfig
from asr.decode.rescored import RescoredDecoder
from asr.decode.second import TwoHeadDecoder
from asr.decode.words import Partial
from asr.types import Hypothesis

# Seconds of speech that fits, thought to come before: what is short may fit badly by chance.
PRIOR_SECONDS = 3.0


class RejectingDecoder(DecodesStreams):
    """Finds what `search` finds, or one empty text if its best is not to be believed.

    The misfit of a text is what the likeliest path is ahead of it in acoustic score, in nats,
    divided by the seconds of the utterance and PRIOR_SECONDS more. Of two heads, each counts with
    its share of that score. More than the decoder's `rejection_threshold` is too much; so is a mean
    confidence of the words below its `rejection_confidence` too little, as where music or a noise
    passes for speech.
    """

    def __init__(self, search: BeamSearchDecoder | TwoHeadDecoder | RescoredDecoder):
        self.search = search

    @property
    def config(self) -> DecoderConfig:
        return self.search.config

    def variant(
        self, *, beam: int | None = None, hotwords: Mapping[str, float] | Iterable[str] = ()
    ) -> RejectingDecoder:
        """See `BeamSearchDecoder.variant`."""
        return RejectingDecoder(self.search.variant(beam=beam, hotwords=hotwords))

    def stream(self, frame_shift: float) -> RejectingStream:
        """A decoder of one utterance that comes in pieces."""
        return RejectingStream(self, frame_shift)


class RejectingStream:
    """One utterance: `feed` any number of times, `partial` in between, `finish` once.

    Nothing that is partial is stable: all of it may be rejected.
    """

    def __init__(self, decoder: RejectingDecoder, frame_shift: float):
        self._config = decoder.config
        self._search = decoder.search.stream(frame_shift)
        self._frame_shift = frame_shift
        self._seconds = PRIOR_SECONDS
        self._likeliest = 0.0

    def feed(self, *heads: np.ndarray) -> None:
        """Go on with the log-probabilities (frames, classes) of each head."""
        self._search.feed(*heads)
        self._seconds += len(heads[0]) * self._frame_shift
        share = self._config.second_weight if len(heads) > 1 else 0.0
        for head, weight in zip(heads, (1 - share, share), strict=False):
            self._likeliest += weight * float(head.max(axis=1).sum())

    def partial(self) -> Partial:
        """The likeliest text so far."""
        return Partial(self._search.partial().text, "")

    def finish(self, nbest: int = 1) -> list[Hypothesis]:
        """The best `nbest` texts of all that was fed, the best first; the stream is over then."""
        found = self._search.finish(nbest)
        best, config = found[0], self._config
        misfit = self._likeliest - best.acoustic_score
        confidence = sum(word.confidence for word in best.words) / max(1, len(best.words))
        is_foreign = misfit > config.rejection_threshold * self._seconds
        return [Hypothesis("")] if is_foreign or confidence < config.rejection_confidence else found

"""The likeliest symbol of every frame: no search, no language model, nothing to compile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from asr.decode.checks import to_probabilities
from asr.decode.confidence import Confidence
from asr.decode.tables import PLACE
from asr.decode.words import Partial, group, to_words
from asr.errors import ConfigError
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis


class GreedyDecoder:
    """Best-path decoding (Graves et al. 2006, "Connectionist Temporal Classification", 3.2).

    >>> vocabulary = Vocabulary.characters("ab")
    >>> paths = np.eye(4)[[2, 2, 0, 2, 1, 1, 3]]
    >>> decoder = GreedyDecoder(vocabulary)
    >>> decoder.decode(np.log(paths + 1e-9), frame_shift=0.03)[0].text
    'aa b'
    """

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary

    def decode(self, log_probs: np.ndarray, frame_shift: float) -> list[Hypothesis]:
        """The one hypothesis for `log_probs` (frames, classes) float, `frame_shift` in seconds.

        Raises DecodeError where `log_probs` are no log-probabilities of the vocabulary.
        """
        probabilities = to_probabilities(log_probs, len(self.vocabulary))
        if not len(probabilities):
            return [Hypothesis("")]
        path = probabilities.argmax(axis=1)
        chances = probabilities[np.arange(len(path)), path]
        begins = np.flatnonzero(np.diff(path, prepend=-1))
        ends = np.append(begins[1:], len(path))
        best = np.maximum.reduceat(chances, begins)
        heard = path[begins] != self.vocabulary.blank
        tokens = path[begins][heard]
        places = np.zeros(len(tokens), PLACE)
        places["start"], places["end"] = begins[heard], ends[heard] - 1
        places["chance"] = best[heard]
        words = to_words(group(tokens, self.vocabulary), places, frame_shift, Confidence())
        score = float(np.log(np.maximum(chances, np.finfo(np.float32).tiny)).sum())
        text = " ".join(word.word for word in words)
        return [Hypothesis(text, words, score=score, acoustic_score=score)]

    def decode_batch(
        self, log_probs: Sequence[np.ndarray], frame_shift: float, threads: int = 1
    ) -> list[list[Hypothesis]]:
        """One result an utterance. NumPy is done before a thread could help: `threads` is moot."""
        return [self.decode(utterance, frame_shift) for utterance in log_probs]

    def variant(
        self, *, beam: int | None = None, hotwords: Mapping[str, float] | Iterable[str] = ()
    ) -> GreedyDecoder:
        """This decoder: it has no `beam`. Raises ConfigError if there are `hotwords`."""
        if hotwords:
            raise ConfigError("greedy decoding knows no hot words", "choose the decoder 'beam'")
        return self

    def stream(self, frame_shift: float) -> GreedyStream:
        """A decoder of one utterance that comes in pieces."""
        return GreedyStream(self, frame_shift)


class GreedyStream:
    """One utterance: `feed` any number of times, `partial` in between, `finish` once.

    It remembers all frames and decodes them anew each time: utterances are short, and this is fast.
    """

    def __init__(self, decoder: GreedyDecoder, frame_shift: float):
        self._decoder, self._frame_shift = decoder, frame_shift
        self._log_probs: list[np.ndarray] = []

    def feed(self, log_probs: np.ndarray) -> None:
        """Go on with `log_probs` (frames, classes)."""
        self._log_probs.append(log_probs)

    def partial(self) -> Partial:
        """The text so far; all but its last word, which may go on, is stable."""
        words = [word.word for word in self.finish()[0].words]
        return Partial(" ".join(words), " ".join(words[:-1]))

    def finish(self) -> list[Hypothesis]:
        """The one hypothesis for all that was fed. Raises DecodeError as `decode` does."""
        if not self._log_probs:
            return [Hypothesis("")]
        return self._decoder.decode(np.concatenate(self._log_probs), self._frame_shift)

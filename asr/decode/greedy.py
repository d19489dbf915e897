"""The most probable symbol of each frame: no search, no language model, nothing to compile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from asr.decode.config import DecoderConfig
from asr.errors import ConfigError
from asr.lexicon.hotwords import NO_HOTWORDS, PreparedHotwords
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis
from asr.words import Confidence, Partial, group, to_probabilities, to_words


@dataclass(frozen=True)
class GreedySearch:
    """Best-path decoding (Graves et al. 2006, "Connectionist Temporal Classification", 3.2).

    >>> from asr.decode import Decoder
    >>> paths = np.eye(4)[[2, 2, 0, 2, 1, 1, 3]]
    >>> decoder = Decoder(GreedySearch(Vocabulary.characters("ab")), frame_shift=0.03)
    >>> decoder.decode(np.log(paths + 1e-9))[0].text
    'aa b'
    """

    vocabulary: Vocabulary
    heads: tuple[int, ...] = (0,)
    config: DecoderConfig = field(default_factory=DecoderConfig)

    def stream(self, frame_shift: float) -> GreedyStream:
        return GreedyStream(self.vocabulary, frame_shift)

    def variant(
        self, config: DecoderConfig, hotwords: PreparedHotwords = NO_HOTWORDS
    ) -> GreedySearch:
        """This search: it has no settings. Raises ConfigError if there are `hotwords`."""
        if hotwords.boosts:
            raise ConfigError("greedy decoding knows no hot words", "choose the decoder 'beam'")
        return self


class GreedyStream:
    """Keeps all frames and decodes them all each time: utterances are short, and this is fast."""

    def __init__(self, vocabulary: Vocabulary, frame_shift: float):
        self._vocabulary, self._frame_shift = vocabulary, frame_shift
        self._log_probs: list[np.ndarray] = []

    def feed(self, *heads: np.ndarray) -> None:
        self._log_probs.append(heads[0])

    def partial(self) -> Partial:
        """The text so far; all but its last word, which may still grow, is stable."""
        words = [word.word for word in self.finish()[0].words]
        return Partial(" ".join(words), " ".join(words[:-1]))

    def finish(self, nbest: int = 1) -> list[Hypothesis]:
        """The one hypothesis for all that was fed."""
        if not self._log_probs:
            return [Hypothesis("")]
        vocabulary = self._vocabulary
        probabilities = to_probabilities(np.concatenate(self._log_probs), len(vocabulary))
        if not len(probabilities):
            return [Hypothesis("")]
        path = probabilities.argmax(axis=1)
        on_path = probabilities[np.arange(len(path)), path]
        begins = np.flatnonzero(np.diff(path, prepend=-1))
        ends = np.append(begins[1:], len(path))
        is_token = path[begins] != vocabulary.blank
        tokens = group(path[begins][is_token], vocabulary)
        spans = np.column_stack([begins, ends - 1])[is_token]
        peaks = np.maximum.reduceat(on_path, begins)[is_token].astype(np.float64)
        words = to_words(tokens, spans, peaks, self._frame_shift, Confidence())
        score = float(np.log(np.maximum(on_path, np.finfo(np.float32).tiny)).sum())
        text = " ".join(word.word for word in words)
        return [Hypothesis(text, words, score=score, acoustic_score=score)]

    def complete(self, hypotheses: Sequence[Hypothesis]) -> list[Hypothesis]:
        return list(hypotheses)

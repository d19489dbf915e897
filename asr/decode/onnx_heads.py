"""Decoders for bundles whose network is a transducer or an attention decoder: no torch needed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from asr.decode import attention, transducer
from asr.decode.batches import DecodesBatches
from asr.decode.transducer import Floats, Predictor
from asr.decode.words import Partial, Span, group
from asr.errors import BundleError, ConfigError
from asr.lm.recurrent import RecurrentLM
from asr.text.vocabulary import Vocabulary
from asr.types import Hypothesis, Word

PREDICTION, JOINT, DECODER = "prediction.onnx", "joint.onnx", "decoder.onnx"


class OnnxTransducer:
    """The steps of a transducer (`asr.decode.transducer.TransducerSteps`)."""

    def __init__(self, folder: Path):
        self._prediction, self._joint = _session(folder / PREDICTION), _session(folder / JOINT)
        self._state_size = _width(self._prediction, "state")

    def start(self) -> Floats:
        return np.zeros((1, self._state_size), np.float32)

    def predict(self, symbols: np.ndarray, states: Floats) -> tuple[Floats, Floats]:
        inputs = {"tokens": symbols[:, None].astype(np.int64), "state": states}
        predicted, after = self._prediction.run(["predicted", "next_state"], inputs)
        return predicted, after

    def join(self, encoded: Floats, predicted: Floats) -> Floats:
        inputs = {"encoded": encoded, "predicted": predicted}
        return self._joint.run(["log_probs"], inputs)[0]


class OnnxAttention:
    """The steps of an attention decoder (`asr.decode.attention.AttentionSteps`)."""

    def __init__(self, folder: Path):
        self._decoder = _session(folder / DECODER)
        self._state_size = _width(self._decoder, "state")

    def start(self, n_rows: int) -> tuple[Floats, Floats]:
        return np.zeros((1, self._state_size), np.float32), np.zeros((1, n_rows), np.float32)

    def step(
        self, encoded: Floats, symbols: np.ndarray, states: Floats, looked: Floats
    ) -> tuple[Floats, Floats, Floats]:
        tokens = symbols[:, None].astype(np.int64)
        inputs = {"encoded": encoded, "tokens": tokens, "state": states, "looked": looked}
        log_probs, after, seen = self._decoder.run(["log_probs", "next_state", "attention"], inputs)
        return log_probs, after, seen


class _Found(NamedTuple):
    """A result of either search."""

    symbols: Sequence[int]
    rows: Sequence[int]
    log_probs: Sequence[float]
    score: float
    lm_score: float
    lm_weight: float

    def hypothesis(self, vocabulary: Vocabulary, frame_shift: float) -> Hypothesis:
        spans = group(self.symbols, vocabulary)
        words = tuple(
            Word(
                span.word,
                round(self.rows[span.first] * frame_shift, 3),
                round((self.rows[span.last] + 1) * frame_shift, 3),
                self._confidence(span),
            )
            for span in spans
        )
        return Hypothesis(
            " ".join(span.word for span in spans),
            words,
            score=self.score,
            acoustic_score=self.score - self.lm_weight * self.lm_score,
            lm_score=self.lm_score,
        )

    def _confidence(self, span: Span) -> float:
        own = self.log_probs[span.first : span.last + 1]
        return math.exp(sum(own) / len(own))


class SameUnits:
    """A recurrent language model whose first classes are those of a network."""

    def __init__(self, lm: RecurrentLM, classes: int):
        self._lm, self._classes = lm, classes

    def start(self, batch: int = 1) -> Floats:
        return self._lm.start(batch)

    def step(self, tokens: np.ndarray, state: Floats) -> tuple[Floats, Floats]:
        log_probs, state = self._lm.step(tokens, state)
        return log_probs[:, : self._classes], state


def same_units(lm: RecurrentLM, vocabulary: Vocabulary) -> SameUnits:
    """The model for shallow fusion; BundleError if it predicts other units than `vocabulary`."""
    if lm.vocabulary.symbols[: len(vocabulary)] != vocabulary.symbols:
        raise BundleError(
            "the recurrent language model predicts other units than the network",
            "train it on the network's units, or export without it",
        )
    return SameUnits(lm, len(vocabulary))


class HeadDecoder(DecodesBatches):
    """What the recogniser needs, from a search over one utterance.

    Such a decoder knows neither lexicon nor hot words nor a word n-gram model, and cannot stream:
    it spells what the network spells, with a language model over the same units if one is given.
    The confidence of a word is the geometric mean of its symbols' probabilities.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        search: Callable[[Any, int], list[_Found]],
    ):
        self.vocabulary = vocabulary
        self._search = search

    def decode(self, outputs: Any, frame_shift: float, nbest: int = 1) -> list[Hypothesis]:
        """`outputs`: rows (T, J) of the encoder, or a pair with the second head's (T, classes)."""
        return [
            found.hypothesis(self.vocabulary, frame_shift) for found in self._search(outputs, nbest)
        ]

    def variant(
        self, *, beam: int | None = None, hotwords: Mapping[str, float] | Iterable[str] = ()
    ) -> HeadDecoder:
        raise ConfigError(
            "transducers and attention decoders know no hot words and no streams",
            "use a model with a CTC head",
        )

    def stream(self, frame_shift: float) -> HeadStream:
        """An utterance that comes in pieces, and is decoded at its end."""
        return HeadStream(self, frame_shift)


class HeadStream:
    """Collects the network's outputs; nothing is known before the end."""

    def __init__(self, decoder: HeadDecoder, frame_shift: float):
        self._decoder, self._frame_shift = decoder, frame_shift
        self._fed: list[tuple[np.ndarray, ...]] = []

    def feed(self, *outputs: np.ndarray) -> None:
        self._fed.append(outputs)

    def partial(self) -> Partial:
        return Partial("", "")

    def finish(self, nbest: int = 1) -> list[Hypothesis]:
        """The best `nbest` texts of all that was fed."""
        joined = tuple(np.concatenate(pieces) for pieces in zip(*self._fed, strict=True))
        outputs = joined[0] if len(joined) == 1 else joined
        return self._decoder.decode(outputs, self._frame_shift, nbest)


def transducer_decoder(
    folder: Path,
    vocabulary: Vocabulary,
    *,
    beam: int,
    most_symbols: int,
    lm: Predictor | None = None,
    lm_weight: float = 0.0,
) -> HeadDecoder:
    """For a bundle with a transducer; a `beam` of 1 is greedy decoding without language model."""
    steps = OnnxTransducer(folder)

    def search(encoded: Floats, nbest: int) -> list[_Found]:
        if beam == 1 and lm is None:
            found = [transducer.greedy(steps, encoded, most_symbols)]
        else:
            found = transducer.beam_search(
                steps,
                encoded,
                beam=beam,
                most_symbols=most_symbols,
                nbest=nbest,
                lm=lm,
                lm_weight=lm_weight,
            )
        return [
            _Found(r.symbols, r.rows, r.log_probs, r.score, r.lm_score, lm_weight) for r in found
        ]

    return HeadDecoder(vocabulary, search)


def attention_decoder(
    folder: Path,
    vocabulary: Vocabulary,
    *,
    beam: int,
    ctc_weight: float = 0.0,
    lm: Predictor | None = None,
    lm_weight: float = 0.0,
) -> HeadDecoder:
    """For a bundle with an attention decoder, perhaps joined by a CTC head over the same units."""
    steps = OnnxAttention(folder)

    def search(outputs: Any, nbest: int) -> list[_Found]:
        encoded, ctc = outputs if isinstance(outputs, tuple) else (outputs, None)
        found = attention.beam_search(
            steps,
            encoded,
            beam=beam,
            nbest=nbest,
            ctc_log_probs=ctc,
            ctc_weight=ctc_weight,
            lm=lm,
            lm_weight=lm_weight,
        )
        # Attention may jump back; time does not.
        rows = [np.maximum.accumulate(r.attention.argmax(axis=1)).tolist() for r in found]
        return [
            _Found(r.symbols, at, r.log_probs, r.score, r.lm_score, lm_weight)
            for r, at in zip(found, rows, strict=True)
        ]

    return HeadDecoder(vocabulary, search)


def _session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only; they come as exceptions
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # unpack weights once
    try:
        return onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise BundleError(f"{path}: not a part of a network: {error}", "export it again") from error


def _width(session: onnxruntime.InferenceSession, name: str) -> int:
    return next(value.shape[1] for value in session.get_inputs() if value.name == name)

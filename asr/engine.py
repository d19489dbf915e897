"""Running a network: features in, log-probabilities out, whatever does the arithmetic."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from asr.errors import BundleError

BATCH_FRAMES = 8_000  # rows in one batch, padding included: bounds the memory of activations

Array = NDArray[np.float32]


class Engine(Protocol):
    """What the recogniser needs of a network."""

    def log_probs(self, features: Sequence[Array]) -> list[Array]:
        """Features `(frames, size)` of utterances -> log-probabilities `(frames', classes)`.

        The result for an utterance does not depend on the others.
        """
        ...


class OnnxEngine:
    """ONNX Runtime on the CPU.

    `threads` is the number of cores used for one batch (None: all that there are).

    Raises BundleError if the file is no network, or not one of ours.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; they come as exceptions
        # Threads that spin while they wait would take the core from decoding.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise BundleError(f"{path}: not a network: {error}", "export it again") from error
        names = {value.name for value in self._session.get_inputs()}
        if names != {"features", "lengths"}:
            raise BundleError(
                f"{path}: its inputs are {', '.join(sorted(names))}, not features and lengths",
                "export it again with `asr export`",
            )

    def log_probs(self, features: Sequence[Array]) -> list[Array]:
        """See `Engine.log_probs`."""
        results: list[Array] = [np.empty(0, np.float32)] * len(features)
        for batch in _batches([len(rows) for rows in features]):
            lengths = np.array([len(features[i]) for i in batch], np.int64)
            padded = np.zeros((len(batch), max(lengths), features[batch[0]].shape[1]), np.float32)
            for row, i in zip(padded, batch, strict=True):
                row[: len(features[i])] = features[i]
            log_probs, output_lengths = self._session.run(
                ["log_probs", "output_lengths"], {"features": padded, "lengths": lengths}
            )
            for i, output, length in zip(batch, log_probs, output_lengths, strict=True):
                results[i] = output[:length]
        return results


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Indices in groups of similar length and at most BATCH_FRAMES rows, longest first.

    >>> list(_batches([3000, 5000, 10, 4000]))
    [[1], [3, 0], [2]]
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        longest = lengths[batch[0]] if batch else 0
        if batch and longest * (len(batch) + 1) > BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch

"""Running a network: features in, log-probabilities out, whatever does the arithmetic."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from asr.errors import BundleError

Array = NDArray[np.float32]
Heads: TypeAlias = tuple[Array, ...]  # log-probabilities (frames, classes) of each


@dataclass(frozen=True, slots=True)
class Job:
    """Work of a stream for the network: rows of features `(frames, size)`."""

    features: Array


class Engine(Protocol):
    """What the recogniser needs of a network."""

    def log_probs(self, features: Sequence[Array]) -> list[Array]:
        """Features `(frames, size)` of utterances -> log-probabilities `(frames', classes)`.

        The result for an utterance does not depend on the others.
        """
        ...

    def all_log_probs(self, features: Sequence[Array]) -> list[Heads]:
        """`log_probs` of every head of the network that the bundle uses, the first one first."""
        ...


class OnnxEngine:
    """ONNX Runtime on the CPU, each utterance by itself, `threads` of them at a time (None: one a
    core).

    Batches would save a fifth of the time at best (61 against 47 us of CPU a frame with 4 x 256
    cells in 8 bits), but the quantisation of activations spans a batch: what an utterance gives
    would depend on the others.

    Raises BundleError if the file is no network, or not one of ours.
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only; they come as exceptions
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
        outputs = {value.name for value in self._session.get_outputs()}
        self._heads = [name for name in ("log_probs", "second_log_probs") if name in outputs]
        self._threads = threads or os.cpu_count() or 1

    def log_probs(self, features: Sequence[Array]) -> list[Array]:
        """See `Engine.log_probs`."""
        return [heads[0] for heads in self.all_log_probs(features)]

    def all_log_probs(self, features: Sequence[Array]) -> list[Heads]:
        """See `Engine.all_log_probs`."""
        if len(features) == 1 or self._threads == 1:
            return [self._run(rows) for rows in features]
        results: list[Heads] = [()] * len(features)
        longest_first = sorted(range(len(features)), key=lambda i: -len(features[i]))
        with ThreadPoolExecutor(self._threads) as pool:
            computed = pool.map(lambda i: self._run(features[i]), longest_first)
            for i, heads in zip(longest_first, computed, strict=True):
                results[i] = heads
        return results

    def _run(self, rows: Array) -> Heads:
        inputs = {"features": rows[None], "lengths": np.array([len(rows)], np.int64)}
        *heads, lengths = self._session.run([*self._heads, "output_lengths"], inputs)
        return tuple(log_probs[0, : lengths[0]] for log_probs in heads)

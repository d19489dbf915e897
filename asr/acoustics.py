"""From waveforms to log-probabilities: the one place where features meet the network.

Files, streams, alignment, tuning and plots all take it from here. Also the one place that opens
ONNX Runtime sessions: on the CPU, no warnings, one kind of error.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from asr.audio import Waveform
from asr.errors import ASRError, BundleError
from asr.features import Features
from asr.files import open_binary

if TYPE_CHECKING:
    from asr.packaging.bundle import Bundle

# Where weights that lie outside the graph's own file would be looked for.
_WEIGHTS_ELSEWHERE = "session.model_external_initializers_file_folder_path"
_UNPACKED_WEIGHTS = "session.disable_quant_qdq"
# CPUs without VNNI add products of 8 bits up in 16, which overflow, unless the weights are made
# unsigned. That fails for graphs whose nodes share 8-bit tensors, as those of older exports do.
_UNSIGNED_WEIGHTS = "session.x64quantprecision"
_SHARED = "Attempt to replace the existing tensor"


class Session(onnxruntime.InferenceSession):
    """A graph; `run` raises `error` where the graph does not do what it promises."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: onnxruntime.SessionOptions,
        error: type[ASRError],
        remedy: str,
    ) -> None:
        # Another file that the graph may name is not verified: below a file there is none.
        options.add_session_config_entry(_WEIGHTS_ELSEWHERE, os.fspath(path))
        with open_binary(path) as file:
            super().__init__(file.read(), options, providers=["CPUExecutionProvider"])
        self._failed = os.fspath(path), error, remedy

    def run(
        self, outputs: Sequence[str] | None, inputs: Mapping[str, Any], run_options: Any = None
    ) -> list[Any]:
        """The outputs of these names for the inputs."""
        try:
            return super().run(outputs, inputs, run_options)
        except Exception as failure:  # ONNX Runtime's exceptions have no common base
            path, error, remedy = self._failed
            raise error(f"{path}: the network fails: {_reason(failure)}", remedy) from failure


def open_session(
    path: str | os.PathLike[str],
    problem: str = "not a network",
    *,
    remedy: str = "export it again",
    error: type[ASRError] = BundleError,
    threads: int = 1,
    unpack_weights: bool = True,
) -> Session:
    """A session on the CPU for the graph in a file, which must hold all of its weights.

    `unpack_weights`: turn 8-bit weights into floats once, when the file is loaded, not at every
    call; leave it off for graphs that compute in 8 bits. Raises `error`, with `remedy`, if the file
    is no graph; `problem` says what it is not.
    """
    setting = _UNPACKED_WEIGHTS if unpack_weights else _UNSIGNED_WEIGHTS
    try:
        return Session(path, _options(threads, setting), error, remedy)
    except Exception as failure:
        if setting == _UNSIGNED_WEIGHTS and _SHARED in str(failure):
            return Session(path, _options(threads), error, remedy)
        raise error(f"{path}: {problem}: {_reason(failure)}", remedy) from failure


def _options(threads: int, *settings: str) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # errors come as exceptions
    for setting in settings:
        options.add_session_config_entry(setting, "1")
    return options


def _reason(failure: Exception) -> str:
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    return " ".join(str(failure).split())[:300]


Array = NDArray[np.float32]
Heads: TypeAlias = tuple[Array, ...]  # log-probabilities (frames, classes) of each

MAX_CHUNK = 100_000  # rows; half an hour of them
HEADS = ("log_probs", "second_log_probs")
STATE, NEXT_STATE = "state_", "next_state_"  # with a number: what a chunk hands on to the next
CHUNK, RIGHT_CONTEXT = "chunk", "right_context"  # metadata of a graph that goes chunk by chunk


@dataclass(frozen=True, slots=True)
class Chunks:
    """How a network that was trained on chunks reads: `size` frames at a time (rows of features),
    each time with `right_context` frames of what follows.
    """

    size: int
    right_context: int


@dataclass(slots=True)
class Job:
    """Work for the network: rows of features `(frames, size)`.

    They are a whole utterance, or the next rows of `utterance`, its `last` ones or not. A job is
    done once, however often it is run.
    """

    features: Array
    utterance: ChunkedUtterance | None = None
    last: bool = True
    done: Heads | None = None


class Engine(Protocol):
    """What the recogniser needs of a network."""

    chunks: Chunks | None

    def log_probs(self, features: Sequence[Array]) -> list[Array]:
        """Features `(frames, size)` of utterances -> log-probabilities `(frames', classes)`.

        The result for an utterance does not depend on the others.
        """
        ...

    def all_log_probs(self, features: Sequence[Array]) -> list[Heads]:
        """`log_probs` of every head of the network that the bundle uses, the first one first."""
        ...

    def utterance(self) -> ChunkedUtterance:
        """A new utterance that comes in pieces, for an engine with `chunks`."""
        ...

    def run(self, jobs: Sequence[Job]) -> list[Heads]:
        """The outputs for the jobs, in order; those of one utterance are done in order."""
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
        # The graph computes in 8 bits where its weights are so: they stay packed.
        self._session = open_session(path, unpack_weights=False)
        inputs = {value.name: value.shape for value in self._session.get_inputs()}
        metadata = self._session.get_modelmeta().custom_metadata_map
        states = [name for name in inputs if name.startswith(STATE)]
        if inputs.keys() - states != {"features", "lengths"} or (CHUNK in metadata) < bool(states):
            raise BundleError(
                f"{path}: its inputs are {', '.join(sorted(inputs))}, not features and lengths",
                "export it again with `asr export`",
            )
        outputs = {value.name: value.shape for value in self._session.get_outputs()}
        self._heads = [name for name in HEADS if name in outputs]
        try:
            self.chunks = _chunks(metadata)
            self._classes = {name: int(outputs[name][-1]) for name in self._heads}
            self._states = {name: (1, int(inputs[name][-1])) for name in states}
            if not self._heads or any(len(outputs[name]) != 3 for name in self._heads):
                raise ValueError("it gives no log-probabilities of frames")
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise BundleError(
                f"{path}: damaged: {error}", "export it again with `asr export`"
            ) from error
        self._threads = threads or os.cpu_count() or 1

    def log_probs(self, features: Sequence[Array]) -> list[Array]:
        """See `Engine.log_probs`."""
        return [heads[0] for heads in self.all_log_probs(features)]

    def all_log_probs(self, features: Sequence[Array]) -> list[Heads]:
        """See `Engine.all_log_probs`."""
        return self.run([Job(rows) for rows in features])

    def utterance(self) -> ChunkedUtterance:
        """See `Engine.utterance`."""
        assert self.chunks is not None
        states = {name: np.zeros(shape, np.float32) for name, shape in self._states.items()}
        return ChunkedUtterance(self.chunks, states)

    def run(self, jobs: Sequence[Job]) -> list[Heads]:
        """See `Engine.run`."""
        queues: dict[int, list[Job]] = {}
        for job in jobs:
            queues.setdefault(id(job.utterance or job), []).append(job)
        if len(queues) == 1 or self._threads == 1:
            return [self._run(job) for job in jobs]
        longest_first = sorted(queues.values(), key=lambda queue: -len(queue[0].features))
        with ThreadPoolExecutor(self._threads) as pool:
            results = pool.map(lambda queue: [self._run(job) for job in queue], longest_first)
            done = {
                id(job): heads
                for queue, outputs in zip(longest_first, results, strict=True)
                for job, heads in zip(queue, outputs, strict=True)
            }
        return [done[id(job)] for job in jobs]

    def _run(self, job: Job) -> Heads:
        if job.done is None:
            if self.chunks is None:
                job.done = self._call(job.features, {})
            else:
                job.done = self._run_chunks(job.utterance or self.utterance(), job)
        return job.done

    def _run_chunks(self, utterance: ChunkedUtterance, job: Job) -> Heads:
        """The network's outputs for the chunks that are complete with the rows of a job."""
        outputs = [
            tuple(np.zeros((0, self._classes[name]), np.float32) for name in self._heads),
            *(
                self._call(chunk, utterance.states)
                for chunk in utterance.take(job.features, job.last)
            ),
        ]
        return tuple(np.concatenate(pieces) for pieces in zip(*outputs, strict=True))

    def _call(self, rows: Array, states: dict[str, Array]) -> Heads:
        """One run of the graph; `states` are brought up to date."""
        length = len(rows)
        if self.chunks is not None:
            missing = self.chunks.size + self.chunks.right_context - length
            rows = np.pad(rows, ((0, missing), (0, 0)))
        inputs = {"features": rows[None], "lengths": np.array([length], np.int64), **states}
        following = [name.replace(STATE, NEXT_STATE) for name in states]
        outputs = self._session.run([*self._heads, "output_lengths", *following], inputs)
        heads, lengths = outputs[: len(self._heads)], outputs[len(self._heads)]
        states.update(zip(states, outputs[len(self._heads) + 1 :], strict=True))
        return tuple(log_probs[0, : lengths[0]] for log_probs in heads)


def _chunks(metadata: Mapping[str, str]) -> Chunks | None:
    """Raises ValueError or KeyError for what cannot be."""
    if CHUNK not in metadata:
        return None
    size, right_context = int(metadata[CHUNK]), int(metadata[RIGHT_CONTEXT])
    if not (1 <= size <= MAX_CHUNK and 0 <= right_context <= MAX_CHUNK):
        raise ValueError(f"chunks of {size} rows with {right_context} behind")
    return Chunks(size, right_context)


class ChunkedUtterance:
    """Where a network is in an utterance that it reads chunk by chunk.

    states: what the last chunk handed on, `(1, size)` each.
    """

    def __init__(self, chunks: Chunks, states: dict[str, Array]):
        self.states = states
        self._chunks = chunks
        self._rows: Array | None = None  # that no chunk has begun with

    def take(self, rows: Array, last: bool) -> list[Array]:
        """Add rows `(n, size)`; the chunks that are complete now, with what follows each.

        What follows the `last` rows is nothing.
        """
        waiting = rows if self._rows is None else np.concatenate([self._rows, rows])
        size, whole = self._chunks.size, self._chunks.size + self._chunks.right_context
        taken = []
        while len(waiting) >= whole or (last and len(waiting)):
            taken.append(waiting[:whole])
            waiting = waiting[size:]
        self._rows = waiting
        return taken


class Acoustics:
    """The features and the network of a bundle.

    features, engine: its two halves, for what comes in pieces. frame_shift: seconds from one row of
    log-probabilities to the next.

    Args:
        bundle: the model.
        threads: cores to use (None: all that there are).
        engine: what runs the network; ONNX Runtime unless given.

    Raises BundleError if the file of the network is none.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int | None = None, engine: Engine | None = None
    ) -> None:
        self.features = Features(bundle.config.features)
        self.engine: Engine = engine or OnnxEngine(bundle.model_path, threads)
        self.frame_shift = bundle.config.frame_shift

    def log_probs(self, waveforms: Sequence[Waveform]) -> list[Heads]:
        """Waveforms `(samples,)` -> log-probabilities `(frames, classes)` of each head.

        At the sample rate of the features. The result for a waveform does not depend on the others;
        for one that is shorter than a frame it is `()`.
        """
        rows = [self.features(waveform) for waveform in waveforms]
        filled = [i for i, features in enumerate(rows) if len(features)]
        outputs: list[Heads] = [()] * len(rows)
        heads = self.engine.all_log_probs([rows[i] for i in filled])
        for i, log_probs in zip(filled, heads, strict=True):
            outputs[i] = log_probs
        return outputs

"""Running a network: features in, log-probabilities out, whatever does the arithmetic."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.errors import BundleError
from asr.sessions import open_session

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

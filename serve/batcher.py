"""The recogniser's work for many live streams, on one thread of its own.

What streams hand in within a few milliseconds is computed together. A final takes longer than all
else: the network reads a whole segment, and the search is done in slices. What has come in
meanwhile goes first, so that nobody's partial waits for somebody else's final. Streams know nothing
of each other: not when they are cut off, and not when one of them fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asr.acoustics import Heads
from asr.audio import Waveform
from asr.recognizer import Recognizer
from asr.stream import Detection, NetworkRun, Request, Steps, Stream
from asr.types import StreamEvent
from asr.vad import Array, detect_together

MAX_STREAMS = 64  # in one batch
_ALONE = object()  # instead of an answer: it is to be computed for one stream alone
_LONG_ROWS = 100  # of features, for which a draft does not ask: the network reads them in some 5 ms


@dataclass(eq=False)
class _Task:
    """`block` is a stream's next block; None: its utterance ends."""

    stream: Stream
    block: Waveform | None
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[StreamEvent]]
    steps: Steps | None = None  # of the stream, once they have begun,
    request: Request | None = None  # and what the last one asked for
    busy: float = 0.0  # seconds of computing

    def answer(self, result: list[StreamEvent] | Exception) -> None:
        def resolve() -> None:
            if self.done.done():  # who waited has gone
                return
            if isinstance(result, Exception):
                self.done.set_exception(result)
            else:
                self.done.set_result(result)

        with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the connection
            self.loop.call_soon_threadsafe(resolve)


class Batcher:
    """Call `feed` and `flush` from an event loop, one after the other for each stream.

    Args:
        wait: seconds to wait for other streams' sound before beginning without it.
        on_batch: told how many streams were computed together.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        wait: float,
        on_batch: Callable[[int], object] = lambda size: None,
    ):
        self._recognizer = recognizer
        self._wait = wait
        self._on_batch = on_batch
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._long: deque[_Task] = deque()  # in the middle of a final, in turn
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    async def feed(self, stream: Stream, block: Waveform) -> tuple[list[StreamEvent], float]:
        """What a stream understands from a block `(samples,)`, and the seconds it took to compute.

        Raises what the stream raises.
        """
        return await self._submit(stream, block)

    async def flush(self, stream: Stream) -> tuple[list[StreamEvent], float]:
        """End the utterance of a stream: its last results."""
        return await self._submit(stream, None)

    def close(self) -> None:
        """Finish what was handed in, then stop."""
        self._tasks.put(None)
        self._thread.join()

    async def _submit(
        self, stream: Stream, block: Waveform | None
    ) -> tuple[list[StreamEvent], float]:
        loop = asyncio.get_running_loop()
        task = _Task(stream, block, loop, loop.create_future())
        self._tasks.put(task)
        return await task.done, task.busy

    def _run(self) -> None:
        more = True
        while more or self._long:
            if more:
                batch, more = self._gather()
                if batch:
                    self._on_batch(len(batch))
                    self._compute(batch)
            if self._long:
                self._continue()

    def _gather(self) -> tuple[list[_Task], bool]:
        """The tasks of a batch; False if they are the last.

        Waits for the first unless there is other work, and then a little for more.
        """
        batch: list[_Task] = []
        wait = 0.0 if self._long else None
        deadline = 0.0
        while len(batch) < MAX_STREAMS:
            try:
                task = self._tasks.get(timeout=wait)
            except queue.Empty:
                break
            if task is None:
                return batch, False
            batch.append(task)
            deadline = deadline or time.monotonic() + (0.0 if self._long else self._wait)
            wait = max(0.0, deadline - time.monotonic())
        return batch, True

    def _compute(self, batch: Sequence[_Task]) -> None:
        for task in batch:
            self._finish_others(task.stream)
        tasks = [task for task in batch if self._step(task)]
        tasks = self._together(tasks, Detection, _detect)
        short = [task for task in tasks if _rows(task) < _LONG_ROWS]
        long = [task for task in tasks if _rows(task) >= _LONG_ROWS]
        self._long += self._together(short, NetworkRun, self._run_network) + long

    def _continue(self) -> None:
        """One more step of the final whose turn it is. If that is the network's, it reads as many
        segments together as it has threads."""
        task = self._long.popleft()
        if isinstance(task.request, NetworkRun):
            waiting = [other for other in self._long if isinstance(other.request, NetworkRun)]
            others = waiting[: self._recognizer.threads - 1]
            for other in others:
                self._long.remove(other)
            self._long += self._together([task, *others], NetworkRun, self._run_network)
        elif self._step(task):
            self._long.append(task)

    def _finish_others(self, stream: Stream) -> None:
        """What a stream was asked before, and nobody may wait for any more, is done before."""
        for task in [task for task in self._long if task.stream is stream]:
            self._long.remove(task)
            while self._step(task, _ALONE):
                pass

    def _together(
        self,
        tasks: list[_Task],
        kind: type[Request],
        compute: Callable[[list[Any]], Sequence[Any]],
    ) -> list[_Task]:
        """Answer all requests of a kind together; returns the tasks that are not done yet."""
        while asking := [task for task in tasks if isinstance(task.request, kind)]:
            begin = time.perf_counter()
            # If one stream's request cannot be computed, each is tried alone: the others continue.
            answers: Sequence[Any] = [_ALONE] * len(asking)
            with contextlib.suppress(Exception):
                answers = compute([task.request for task in asking])
            shared = (time.perf_counter() - begin) / len(asking)
            for task, answer in zip(asking, answers, strict=True):
                task.busy += shared
                if not self._step(task, answer):
                    tasks.remove(task)
        return tasks

    def _run_network(self, requests: Sequence[NetworkRun]) -> list[list[Heads]]:
        jobs = [job for request in requests for job in request.jobs]
        outputs = iter(self._recognizer.run_batch(jobs))
        return [[next(outputs) for _ in request.jobs] for request in requests]

    def _step(self, task: _Task, answer: Any = None) -> bool:
        """Take a stream's next step, with the answer to its request; False if it was the last.

        Errors go to that stream alone.
        """
        begin = time.perf_counter()
        result: list[StreamEvent] | Exception | None = None
        try:
            if task.steps is None:
                task.steps = task.stream.advance(task.block)
            if answer is _ALONE:
                answer = task.request.compute() if task.request else None
            task.request = task.steps.send(answer)
        except StopIteration as end:
            result = end.value
        except Exception as error:
            result = error
        task.busy += time.perf_counter() - begin
        if result is not None:
            task.answer(result)
        return result is None


def _detect(requests: Sequence[Detection]) -> list[Array]:
    return detect_together([(request.detector, request.windows) for request in requests])


def _rows(task: _Task) -> int:
    """Rows of features that a task asks the network to read."""
    jobs = task.request.jobs if isinstance(task.request, NetworkRun) else []
    return sum(len(job.features) for job in jobs)

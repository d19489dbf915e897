"""The recogniser's work for many live streams, on one thread of its own.

What streams hand in within a few milliseconds is computed together. The search for a final takes
longer than all else: it is done in slices, between which what has come in meanwhile goes first, so
that nobody's partial waits for somebody else's final. Streams know nothing of each other: not when
they are cut off, and not when one of them fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial

from asr.acoustics import Heads, Job
from asr.audio import Waveform
from asr.recognizer import Recognizer
from asr.stream import Stream
from asr.types import StreamEvent
from asr.vad import Array, Detector, detect_together

MAX_STREAMS = 64  # in one batch


@dataclass(eq=False)
class _Task:
    """`block` is a stream's next block; None: its utterance ends."""

    stream: Stream
    block: Waveform | None
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[StreamEvent]]
    jobs: list[Job] = field(default_factory=list)
    outputs: list[Heads] = field(default_factory=list)
    # The steps of what is being done, and what the last one asked for.
    pushing: Generator[tuple[Detector, Array], Array | None, list[Job]] | None = None
    question: tuple[Detector, Array] | None = None
    accepting: Generator[None, None, list[StreamEvent]] | None = None
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
        self._long: deque[_Task] = deque()  # in the middle of a long search, in turn
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
                task = self._long.popleft()
                if self._continue(task):
                    self._long.append(task)

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
        pushed = self._push(batch)
        # The shortest first: a partial does not wait for somebody's final.
        pushed.sort(key=lambda task: sum(len(job.features) for job in task.jobs))
        for task in self._network(pushed):
            if self._step(task, self._begin_accepting) and self._continue(task):
                self._long.append(task)

    def _finish_others(self, stream: Stream) -> None:
        """What a stream was asked before, and nobody may wait for any more, is done before."""
        for task in [task for task in self._long if task.stream is stream]:
            self._long.remove(task)
            while self._continue(task):
                pass

    def _push(self, batch: Sequence[_Task]) -> list[_Task]:
        """Feed the streams their blocks, and detect speech for all of them together."""
        pushed = [task for task in batch if self._step(task, self._begin_pushing)]
        while asking := [task for task in pushed if task.question is not None]:
            begin = time.perf_counter()
            answers: Sequence[Array | None] = [None] * len(asking)
            # If detection fails for one stream's windows, each is tried alone: the others continue.
            with contextlib.suppress(Exception):
                answers = detect_together([task.question for task in asking if task.question])
            shared = (time.perf_counter() - begin) / len(asking)
            for task, answer in zip(asking, answers, strict=True):
                task.busy += shared
                if not self._step(task, partial(self._push_on, answer)):
                    pushed.remove(task)
        return pushed

    def _continue(self, task: _Task) -> bool:
        """One slice of what a stream makes of its outputs; False if that was the last."""
        return self._step(task, self._accept) and task.accepting is not None

    def _step(self, task: _Task, step: Callable[[_Task], None]) -> bool:
        """Take a step for one stream; errors go to that stream alone."""
        begin = time.perf_counter()
        try:
            step(task)
        except Exception as error:
            task.answer(error)
            return False
        task.busy += time.perf_counter() - begin
        return True

    def _begin_pushing(self, task: _Task) -> None:
        if task.block is None:
            task.jobs = task.stream.push_end()
        else:
            task.pushing = task.stream.pushing(task.block)
            self._push_on(None, task)

    def _push_on(self, answer: Array | None, task: _Task) -> None:
        assert task.pushing is not None
        if answer is None and task.question is not None:
            detector, windows = task.question
            answer = detector(windows)
        task.question = None
        try:
            task.question = task.pushing.send(answer)
        except StopIteration as end:
            task.jobs = end.value

    def _begin_accepting(self, task: _Task) -> None:
        task.accepting = task.stream.accepting(task.outputs)

    def _accept(self, task: _Task) -> None:
        assert task.accepting is not None
        try:
            next(task.accepting)
        except StopIteration as end:
            task.accepting = None
            task.answer(end.value)

    def _network(self, tasks: list[_Task]) -> list[_Task]:
        """Fill in the outputs; return the tasks for which that was possible."""
        if not any(task.jobs for task in tasks):
            return tasks
        begin = time.perf_counter()
        try:
            outputs = iter(self._recognizer.run_batch([job for t in tasks for job in t.jobs]))
        except Exception:
            # One stream's work cannot be done: find out whose, so that the others continue.
            return [task for task in tasks if self._step(task, self._alone)]
        for task in tasks:
            task.outputs = [next(outputs) for _ in task.jobs]
            task.busy += (time.perf_counter() - begin) / len(tasks)
        return tasks

    def _alone(self, task: _Task) -> None:
        task.outputs = list(self._recognizer.run_batch(task.jobs))

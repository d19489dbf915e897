"""The recogniser's work for many live streams, on one thread of its own.

What streams hand in within a few milliseconds is computed together. Streams know nothing of each
other: not when they are cut off, and not when one of them fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from asr.audio import Waveform
from asr.engine import Heads, Job
from asr.recognizer import Recognizer
from asr.stream import Stream
from asr.types import StreamEvent

MOST_STREAMS = 64  # in one batch


@dataclass
class _Task:
    """`block` is what a stream shall hear next; None: its utterance shall end."""

    stream: Stream
    block: Waveform | None
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[StreamEvent]]
    jobs: list[Job] = field(default_factory=list)
    outputs: list[Heads] = field(default_factory=list)
    events: list[StreamEvent] = field(default_factory=list)
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
        while (first := self._tasks.get()) is not None:
            batch, more = self._gather(first)
            self._on_batch(len(batch))
            self._compute(batch)
            if not more:
                return

    def _gather(self, first: _Task) -> tuple[list[_Task], bool]:
        """The tasks of a batch; False if they are the last."""
        batch, deadline = [first], time.monotonic() + self._wait
        while len(batch) < MOST_STREAMS:
            try:
                task = self._tasks.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if task is None:
                return batch, False
            batch.append(task)
        return batch, True

    def _compute(self, batch: Sequence[_Task]) -> None:
        pushed = [task for task in batch if self._step(task, self._push)]
        # The shortest first: a partial does not wait for somebody's final.
        pushed.sort(key=lambda task: sum(len(job.features) for job in task.jobs))
        for task in self._network(pushed):
            if self._step(task, self._accept):
                task.answer(task.events)

    def _step(self, task: _Task, step: Callable[[_Task], None]) -> bool:
        """Take a step for one stream; whatever it raises is told to that stream alone."""
        begin = time.perf_counter()
        try:
            step(task)
        except Exception as error:
            task.answer(error)
            return False
        task.busy += time.perf_counter() - begin
        return True

    def _push(self, task: _Task) -> None:
        if task.block is None:
            task.jobs = task.stream.push_end()
        else:
            task.jobs = task.stream.push(task.block)

    def _accept(self, task: _Task) -> None:
        task.events = task.stream.accept(task.outputs)

    def _network(self, tasks: list[_Task]) -> list[_Task]:
        """Fill in the outputs; return the tasks for which that was possible."""
        if not any(task.jobs for task in tasks):
            return tasks
        begin = time.perf_counter()
        try:
            outputs = iter(self._recognizer.run_batch([job for t in tasks for job in t.jobs]))
        except Exception:
            # One stream's work cannot be done: find out whose, so that the others go on.
            return [task for task in tasks if self._step(task, self._alone)]
        for task in tasks:
            task.outputs = [next(outputs) for _ in task.jobs]
            task.busy += (time.perf_counter() - begin) / len(tasks)
        return tasks

    def _alone(self, task: _Task) -> None:
        task.outputs = list(self._recognizer.run_batch(task.jobs))

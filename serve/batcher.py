"""The recogniser's work for many live streams, on two threads of its own.

What streams hand in within a few milliseconds is computed together, on the first thread. A final
takes longer than all else: the network reads a whole segment, and the search goes through it. That
is the work of the second thread, which the first one interrupts whenever there is sound, so that
nobody's partial waits for somebody else's final. While sound has to wait all the same, drafts
become longer, which makes them cheaper. Streams know nothing of each other: not when they are cut
off, and not when one of them fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asr.acoustics import Heads
from asr.audio import Waveform
from asr.open_segment import DRAFT_SECONDS
from asr.recognizer import Recognizer
from asr.stream import Detection, NetworkRun, Request, Steps, Stream
from asr.types import StreamEvent
from asr.vad import Array, detect_together

MAX_STREAMS = 64  # in one batch
_ALONE = object()  # instead of an answer: it is to be computed for one stream alone
_LONG_ROWS = 100  # of features, for which a draft does not ask: the network reads them in some 5 ms
_SECONDS_A_ROW = 1e-3  # of features, from the network to the final
_PATIENCE = 1.0  # seconds of work, after which a task of the second thread lets others go first
_LATE = 0.015  # seconds that sound may wait before drafts become longer,
_LONGER, _SHORTER = 1.05, 0.99  # by this factor a batch; and shorter again while it does not wait
_MAX_DRAFT_SECONDS = 4 * DRAFT_SECONDS
_FINALS_NICE = 19  # of the second thread: what the first one leaves


@dataclass(eq=False)
class _Task:
    """`block` is a stream's next block; None: its utterance ends."""

    stream: Stream
    block: Waveform | None
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[list[StreamEvent]]
    handed_in: float  # when
    steps: Steps | None = None  # of the stream, once they have begun,
    request: Request | None = None  # and what the last one asked for
    busy: float = 0.0  # seconds of computing
    handed_on: float = 0.0  # to the second thread, when
    rows: int = 0  # of features, that the network is asked to read then

    @property
    def due(self) -> float:
        """When the second thread should be done with it: late if it is long."""
        is_endless = self.busy > _PATIENCE
        return self.handed_on + (2 * self.busy if is_endless else _SECONDS_A_ROW * self.rows)

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
        self._long: queue.SimpleQueue[list[_Task] | None] = queue.SimpleQueue()
        self._behind: dict[Stream, deque[_Task]] = {}  # a stream's tasks after one that is long
        self._lock = threading.Lock()  # of _behind
        self._draft_seconds = DRAFT_SECONDS
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("batcher", self._run), ("finals", self._run_long))
        ]
        for thread in self._threads:
            thread.start()

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
        self._threads[0].join()
        self._long.put(None)
        self._threads[1].join()

    async def _submit(
        self, stream: Stream, block: Waveform | None
    ) -> tuple[list[StreamEvent], float]:
        loop = asyncio.get_running_loop()
        task = _Task(stream, block, loop, loop.create_future(), time.monotonic())
        self._tasks.put(task)
        return await task.done, task.busy

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._gather()
            if batch:
                self._on_batch(len(batch))
                self._set_pace(time.monotonic() - batch[0].handed_in)
            while batch:
                first: dict[Stream, _Task] = {}
                for task in batch:
                    first.setdefault(task.stream, task)
                self._compute([task for task in first.values() if not self._put_behind(task)])
                batch = [task for task in batch if task is not first[task.stream]]

    def _set_pace(self, waited: float) -> None:
        """Longer or shorter drafts, after sound has waited for some seconds."""
        seconds = self._draft_seconds * (_LONGER if waited > _LATE + self._wait else _SHORTER)
        self._draft_seconds = min(max(seconds, DRAFT_SECONDS), _MAX_DRAFT_SECONDS)

    def _gather(self) -> tuple[list[_Task], bool]:
        """The tasks of a batch; False if they are the last.

        Waits for the first, and then a little for more.
        """
        batch: list[_Task] = []
        wait = None
        deadline = 0.0
        while len(batch) < MAX_STREAMS:
            try:
                task = self._tasks.get(timeout=wait)
            except queue.Empty:
                break
            if task is None:
                return batch, False
            batch.append(task)
            deadline = deadline or time.monotonic() + self._wait
            wait = max(0.0, deadline - time.monotonic())
        return batch, True

    def _compute(self, batch: Sequence[_Task]) -> None:
        tasks = [task for task in batch if self._step(task)]
        tasks = self._together(tasks, Detection, _detect)
        short = [task for task in tasks if _rows(task) < _LONG_ROWS]
        long = [task for task in tasks if _rows(task) >= _LONG_ROWS]
        if long := self._together(short, NetworkRun, self._run_network) + long:
            now = time.monotonic()
            for task in long:
                task.handed_on, task.rows = now, _rows(task)
            with self._lock:
                self._behind |= {task.stream: deque() for task in long}
            self._long.put(long)

    def _put_behind(self, task: _Task) -> bool:
        """Hand a task to the second thread if that has an earlier one of its stream, which nobody
        waits for any more, but which is done before. False if it has none."""
        with self._lock:
            if task.stream not in self._behind:
                return False
            self._behind[task.stream].append(task)
            return True

    def _run_long(self) -> None:
        """The long tasks, step by step, always of the one that is due first."""
        if sys.platform == "linux":  # where a thread has a priority of its own
            with contextlib.suppress(OSError):
                os.nice(_FINALS_NICE)
        tasks: list[_Task] = []
        more = True
        while more or tasks:
            with contextlib.suppress(queue.Empty):
                while more:
                    new = self._long.get(block=not tasks)
                    tasks += new or []
                    more = new is not None
            if tasks:
                tasks.sort(key=lambda task: task.due)
                tasks = self._continue(tasks)

    def _continue(self, tasks: list[_Task]) -> list[_Task]:
        """One more step of the first task. If that is the network's, it reads as many segments
        together as it has threads. Returns the tasks that are left."""
        chosen = tasks[:1]
        if isinstance(chosen[0].request, NetworkRun):
            asking = [task for task in tasks if isinstance(task.request, NetworkRun)]
            chosen = asking[: self._recognizer.threads]
            unfinished = self._together(chosen.copy(), NetworkRun, self._run_network)
        else:
            unfinished = [task for task in chosen if self._step(task, _ALONE)]
        done = [task for task in chosen if task not in unfinished]
        behind = [later for task in done if (later := self._next(task.stream))]
        return [task for task in tasks if task not in done] + behind

    def _next(self, stream: Stream) -> _Task | None:
        """The task behind one that is done."""
        with self._lock:
            if behind := self._behind[stream]:
                return behind.popleft()
            del self._behind[stream]
            return None

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
                task.stream.draft_seconds = self._draft_seconds
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

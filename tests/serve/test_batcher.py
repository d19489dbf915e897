"""Many streams together, each as if it were alone."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from sounds import RATE, TALK, TEXT

from asr.acoustics import Job
from asr.open_segment import DRAFT_SECONDS
from asr.recognizer import Recognizer
from asr.stream import Detection, NetworkRun, Pause
from asr.vad import VadConfig
from serve.batcher import Batcher


@pytest.fixture(scope="module")
def recognizer(tone_bundle):
    return Recognizer(tone_bundle, decoder="greedy", vad=VadConfig(detector="energy"), threads=1)


@pytest.fixture
def sizes():
    return []


@pytest.fixture
def batcher(recognizer, sizes):
    batcher = Batcher(recognizer, wait=0.01, on_batch=sizes.append)
    yield batcher
    batcher.close()
    assert not any(thread.is_alive() for thread in batcher._threads)


async def listen(batcher, stream, waveform, size):
    events, busy = [], 0.0
    for first in range(0, len(waveform), size):
        new, seconds = await batcher.feed(stream, waveform[first : first + size])
        events, busy = events + new, busy + seconds
    last, _ = await batcher.flush(stream)
    assert busy > 0
    return " ".join(event.text for event in events + last if event.is_final and event.text)


def test_streams_do_not_see_each_other(recognizer, batcher, sizes):
    async def run():
        streams = [recognizer.stream(sample_rate=RATE) for _ in range(5)]
        return await asyncio.gather(
            *(listen(batcher, s, TALK, 1000 + 800 * i) for i, s in enumerate(streams))
        )

    assert asyncio.run(run()) == [TEXT] * 5
    assert max(sizes) > 1


def fail(*_):
    raise ZeroDivisionError


@pytest.mark.parametrize("step", ["advance", "_detect", "_add", "_check_rules"])
def test_a_stream_that_fails_fails_alone(recognizer, batcher, step):
    async def run():
        healthy = recognizer.stream(sample_rate=RATE)
        broken = recognizer.stream(sample_rate=RATE)
        setattr(broken, step, fail)
        return await asyncio.gather(
            listen(batcher, healthy, TALK, 4000),
            listen(batcher, broken, TALK, 4000),
            return_exceptions=True,
        )

    text, error = asyncio.run(run())
    assert text == TEXT
    assert isinstance(error, ZeroDivisionError)


def test_what_cannot_be_judged_fails_alone(recognizer, batcher):
    class Strange:
        def advance(self, block):
            yield Detection(fail, np.zeros((0, 512), np.float32))
            return []

    async def run():
        healthy = listen(batcher, recognizer.stream(sample_rate=RATE), TALK, 4000)
        strange = [batcher.feed(Strange(), TALK[:100]) for _ in range(3)]
        return await asyncio.gather(healthy, *strange, return_exceptions=True)

    text, *errors = asyncio.run(run())
    assert text == TEXT
    assert [type(error) for error in errors] == [ZeroDivisionError] * 3


def test_work_the_network_cannot_do_fails_alone(recognizer, batcher):
    class Poisonous:
        """Its jobs have rows of a wrong size."""

        def advance(self, block):
            engine = recognizer._acoustics.engine
            yield NetworkRun(engine, [Job(np.zeros((10, 3), np.float32))])
            return []

    async def run():
        poisonous, healthy = Poisonous(), recognizer.stream(sample_rate=RATE)
        return await asyncio.gather(
            listen(batcher, healthy, TALK, 4000),
            *(batcher.feed(poisonous, TALK[:4000]) for _ in range(5)),
            return_exceptions=True,
        )

    text, *errors = asyncio.run(run())
    assert text == TEXT
    assert len(errors) == 5
    assert all(isinstance(error, Exception) for error in errors)


class Slow:
    """A stream whose finals are searched until it is released."""

    def __init__(self):
        self.released = False
        self.done = []

    def advance(self, block):
        self.done.append("block" if block is not None else "end")
        while not self.released:
            time.sleep(0.002)
            yield Pause()
        self.done.append("searched")
        return []


def test_a_long_search_holds_nobody_up(recognizer, batcher):
    async def run():
        waiting = asyncio.create_task(batcher.feed(slow, TALK[:100]))
        try:
            stream = recognizer.stream(sample_rate=RATE)
            text = await asyncio.wait_for(listen(batcher, stream, TALK, 4000), 20)
            assert not waiting.done()
        finally:
            slow.released = True
        assert (await waiting)[0] == []
        return text

    slow = Slow()
    assert asyncio.run(run()) == TEXT


def test_drafts_are_longer_while_sound_waits(recognizer, batcher):
    silence = np.zeros(800, np.float32)

    class Slow:
        def advance(self, block):
            time.sleep(0.1)
            yield Pause()
            return []

    async def run():
        slow, stream = Slow(), recognizer.stream(sample_rate=RATE)
        for _ in range(3):
            busy = asyncio.create_task(batcher.feed(slow, silence))
            await asyncio.sleep(0.03)
            await batcher.feed(stream, silence)
            await busy
        longest = stream.draft_seconds
        assert DRAFT_SECONDS < longest < 4 * DRAFT_SECONDS
        for _ in range(30):
            await batcher.feed(stream, silence)
        assert DRAFT_SECONDS <= stream.draft_seconds < longest

    asyncio.run(run())


def test_what_a_stream_was_asked_first_is_done_first(batcher):
    async def run():
        slow = Slow()
        given_up = asyncio.create_task(batcher.feed(slow, TALK[:100]))
        await asyncio.sleep(0.05)
        given_up.cancel()
        slow.released = True
        await batcher.flush(slow)
        return slow.done

    assert asyncio.run(run()) == ["block", "searched", "end", "searched"]


def test_who_has_left_is_not_waited_for(recognizer, batcher):
    async def leave():
        task = asyncio.create_task(batcher.feed(recognizer.stream(sample_rate=RATE), TALK))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())  # its loop is closed when the answer comes

    async def stay():
        return await listen(batcher, recognizer.stream(sample_rate=RATE), TALK, 4000)

    assert asyncio.run(stay()) == TEXT
    assert "batcher" in {thread.name for thread in threading.enumerate()}


class Engine:
    """A network that reads segments until it is released, and notes for whom it worked."""

    def __init__(self):
        self.done = []
        self.started = threading.Event()
        self.released = threading.Event()

    def run(self, jobs):
        if len(jobs[0].features) > 100:
            self.started.set()
            assert self.released.wait(20)
        self.done.append([len(job.features) for job in jobs])
        return [(np.zeros((1, 2), np.float32),) for _ in jobs]


class Asking:
    """A stream whose next block needs some rows."""

    def __init__(self, engine, rows):
        self._engine, self._rows = engine, rows

    def advance(self, block):
        yield NetworkRun(self._engine, [Job(np.zeros((self._rows, 3), np.float32))])
        return []


@pytest.mark.parametrize(
    ("threads", "runs"), [(1, [[60], [500], [501], [502]]), (2, [[60], [500, 501], [502]])]
)
def test_a_long_run_of_the_network_holds_nobody_up(recognizer, batcher, monkeypatch, threads, runs):
    """Segments to read, as many together as there are threads, and a draft that is asked for while
    the first of them are read."""
    engine = Engine()
    monkeypatch.setattr(recognizer, "threads", threads)
    monkeypatch.setattr(recognizer, "run_batch", engine.run)

    async def run():
        segments = [
            asyncio.create_task(batcher.feed(Asking(engine, 500 + i), TALK[:100])) for i in range(3)
        ]
        await asyncio.to_thread(engine.started.wait)
        await batcher.feed(Asking(engine, 60), TALK[:100])
        engine.released.set()
        await asyncio.gather(*segments)

    asyncio.run(run())
    assert engine.done == runs
